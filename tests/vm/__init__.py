"""Tests on another kernel than this machine's: a stock Debian kernel under QEMU. Opt-in.

``QUICPIPE_LAB_VM=1 ./lab test tests/vm`` runs them; they need qemu-system-x86, busybox-static and
a Debian package archive, and emulate where there is no KVM: a minute.
"""
