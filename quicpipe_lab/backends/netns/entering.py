"""Runs a program on a node of a lab that somebody else keeps, as if it were a child of ours.

Its standard files are ours. Where a person sits at our terminal, the program gets one of its own
that is joined to ours. It ends with this process, however this process ends.
"""

import contextlib
import os
import shlex
import signal
from collections.abc import Mapping, Sequence

from quicpipe_lab.backends.netns.process import start_program
from quicpipe_lab.backends.netns.registry import RunningLab, Visit, user_name
from quicpipe_lab.errors import LabEndedError, LocalProtocolError, QuicpipeLabError
from quicpipe_lab.model.spelling import did_you_mean
from quicpipe_lab.shell.terminal import (
    Terminal,
    attend,
    caught_signals,
    is_in_background,
    is_terminal,
    terminal_of_caller,
)

_BY_SIGNAL = 128
"""Shells add it to the number of a signal that killed a program."""
_PROMPT = (
    r'case $PS1 in *\\[hH]*) ;; *) PS1="[{node}] $PS1" ;; esac; PROMPT_COMMAND={quoted}; {before}'
)


def run_program(visit: Visit, node: str, argv: Sequence[str], env: Mapping[str, str]) -> int:
    """The program's exit status, as a shell would give it. It ends at the latest with the visit.

    Raises ProgramNotStartedError, LabEndedError, LocalProtocolError.
    """
    lab = visit.describe()
    _refuse(lab, node)
    env = {**env, "QUICPIPE_LAB": lab.name, "QUICPIPE_LAB_NODE": node}
    with contextlib.ExitStack() as stack:
        terminal = terminal_of_caller()
        if terminal is not None:
            stack.enter_context(terminal)
        signals = stack.enter_context(caught_signals(terminal))
        process = start_program(
            visit.ask,
            node,
            argv,
            _standard_files(terminal),
            env=env,
            terminal=None if terminal is None else 0,
        )
        stack.callback(process.close)
        if terminal is not None:
            terminal.start()

        def forward(number: int) -> None:
            with contextlib.suppress(QuicpipeLabError):  # it may be ending just now
                visit.ask({"request": "signal", "pid": process.inner_pid, "signal": number})

        if not attend(process.exit_fd, terminal, signals, forward):
            return _BY_SIGNAL + signal.SIGHUP
        code = process.wait()
        if process.went_with_lab:
            raise LabEndedError(f"the lab {lab.name!r} is gone, and {argv[0]} with it")
    return code if code >= 0 else _BY_SIGNAL - code


def shell_of(env: Mapping[str, str], node: str) -> tuple[list[str], dict[str, str]]:
    """The user's shell, and the environment in which its prompt names the node.

    Shells that show the host's name do so anyway, for the node's name is its host name.
    """
    shell = env.get("SHELL") or "/bin/sh"
    if os.path.basename(shell) == "bash":  # noqa: PTH119
        # Its start files set the prompt, and this is run after them.
        before = env.get("PROMPT_COMMAND", "")
        prompt = _PROMPT.format(node=node, quoted=shlex.quote(before), before=before)
        changed = {"PROMPT_COMMAND": prompt.rstrip("; ")}
    else:
        changed = {"PS1": f"[{node}] $ "}
    return [shell], {**env, **changed}


def _refuse(lab: RunningLab, node: str) -> None:
    names = [place.node for place in lab.places]
    if node not in names:
        raise LocalProtocolError(
            f"there is no node {node!r} in the lab {lab.name!r}"
            f"{did_you_mean(node, names) or '; there are ' + ', '.join(names)}"
        )
    if lab.user != os.geteuid():
        # Also root: its terminal and files are nothing for processes of somebody else.
        user = user_name(lab.user)
        raise LocalProtocolError(f"the lab {lab.name!r} is {user}'s: enter it as {user}")


def _standard_files(terminal: Terminal | None) -> dict[int, int]:
    """Ours, but its own terminal in place of ours.

    In the background there is no standard input: the kernel would not keep the program, which is
    of another session, from taking what is typed to somebody else.
    """
    if terminal is not None:
        return {number: terminal.slave if is_terminal(number) else number for number in range(3)}
    return {1: 1, 2: 2} if is_in_background() else {0: 0, 1: 1, 2: 2}
