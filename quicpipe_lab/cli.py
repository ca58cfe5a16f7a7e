"""The command line: arguments to calls to text."""


def main() -> int:
    return 0
