"""What a notebook shows of each type, without a kernel."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell

from quicpipe_lab import notebook
from quicpipe_lab.api import (
    Lab,
    ProgramResult,
    check_nats,
    explain,
    matrix,
    picture,
    run,
    simulate,
    topologies,
)
from quicpipe_lab.backends.sim.table import Table
from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.model.nat_presets import PRESETS
from quicpipe_lab.model.result import RelayedBy, RunResult
from quicpipe_lab.model.topology import Nat
from quicpipe_lab.notebook import displays


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return run("nat-to-nat", backend="sim", run_dir=tmp_path_factory.mktemp("run"))


def test_every_type_exists_and_has_its_function() -> None:
    for name, function in (notebook._SHOWN | notebook._SHOWN_IN_PARTS).items():
        module, _, kind = name.rpartition(".")
        assert hasattr(import_module(module), kind), name
        assert hasattr(displays, function)


@pytest.mark.parametrize("name", list(topologies))
def test_topologies_draw_themselves(name: str) -> None:
    shown = displays.topology(topologies[name])
    assert shown["text/plain"] == f"{name}."
    assert len(shown["image/png"]) > 5000


def test_values_are_escaped_and_told() -> None:
    ended = ProgramResult("alice", ("sh", "-c", "<b>"), 3, "<out>\n", "", 0.1)
    page = displays.program(ended)["text/html"]
    assert "&lt;b&gt;" in page
    assert "&lt;out&gt;" in page
    assert "ended with 3" in page
    symmetric = Nat("nat", PRESETS["symmetric"])
    assert "<b>APDM</b>" in displays.nat(symmetric)["text/html"]  # it is not the default
    both = displays.relayed_by(RelayedBy(1, 3, "native"))["text/html"]
    assert "75.00 %" in both
    assert "XDP" not in displays.relayed_by(RelayedBy(4))["text/html"]
    assert "two-homes" in displays.lab(Lab("two-homes"))["text/plain"]


def test_simulations_and_their_tables() -> None:
    simulation = simulate("nat-to-nat")
    assert "nobody" in displays.nat_table(Table())["text/html"]
    simulation.run_until("punch-started")
    page = displays.nat_table(simulation.table("nat-a"))["text/html"]
    assert "192.168.0.6" in page
    assert "punch-started" in displays.simulation(simulation)["text/html"]
    simulation.close()


def test_certificates() -> None:
    found = check_nats("symmetric", backend="sim")
    assert (found.ok, found.backend) == (True, "sim")
    page = displays.certificates(found)["text/html"]
    assert "<b>symmetric</b> seen from symmetric-a" in page
    assert "DIFFERENT" not in page


def test_a_run_is_shown_in_parts(result: RunResult) -> None:
    shell = InteractiveShell.instance()
    shell.display_pub = CapturingDisplayPublisher()
    try:
        displays.run(result)
        displays.run(replace(result, ok=False, run_dir=None))
        outputs = [one["data"] for one in shell.display_pub.outputs]
    finally:
        InteractiveShell.clear_instance()
    assert ["image/png" in one for one in outputs] == [False, True, True, True, False]
    assert "direct, as expected" in outputs[0]["text/html"]
    assert "NOT as expected" in outputs[-1]["text/html"]
    sentence = displays.explanation(explain(result))["text/plain"]
    assert sentence.startswith("direct, because")


def test_matrix_and_its_explanations(tmp_path: Path) -> None:
    found = matrix("APDM/APDF", "EIM/APDF, EIM/EIF", backend="sim", run_dir=tmp_path)
    assert repr(found) == "<Matrix of 2 runs on sim, 2 as expected, 1 direct>"
    assert "APDM/APDF" in str(found)
    assert found.ok
    assert found.explain("APDM/APDF", "EIM/APDF").verdict.sentence.startswith("relayed, because")
    with pytest.raises(QuicpipeLabError, match="no run 1"):
        found.explain("APDM/APDF", "EIM/APDF", 1)
    assert found.picture("times").save(tmp_path / "times.svg").exists()


def test_unknown_picture(result: RunResult) -> None:
    with pytest.raises(
        QuicpipeLabError, match="there is no picture 'nonsense'; there are topology"
    ):
        picture(result, "nonsense")
