"""The XDP filter's proofs against bad packets: its parser on the host, the filter in the kernel.

``python -m tests.xdp.fuzz COUNT`` compares the parser in C with the one in Python on that many
inputs of a coverage-guided fuzzer.
"""
