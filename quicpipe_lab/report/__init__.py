"""``quicpipe-lab report``: all that is known of a run, or of a matrix, on one page.

The page needs nothing beside itself: pictures are inline SVG, there is no script, no font, no
request. ``tables.py`` gathers what it says, ``svg.py`` makes the pictures follow the reader's
colour scheme, ``page.py`` and its template put it together.
"""
