"""What ./lab starts, as a script and with -S: Ctrl-C is quiet before Python looks for packages.

That search takes most of Python's own start, and an interrupt in it shows a traceback. The module
``signal`` comes after it: it imports more than all that is done here.
"""

if __name__ == "__main__":
    import _signal  # type: ignore[import-not-found] # no stubs

    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:  # not behind nohup
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

    import site

    site.main()

    import sys

    from quicpipe_lab.entry import main

    sys.exit(main())
