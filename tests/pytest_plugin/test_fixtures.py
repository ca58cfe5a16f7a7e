"""The plugin as projects use it: a pytest of their own, with real labs."""

import re
import sys
from pathlib import Path

import pytest

from tests.pytest_plugin import users_programs

pytest_plugins = "pytester"
pytestmark = pytest.mark.netns

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SECTION = "--- quicpipe-lab ---"


@pytest.fixture(autouse=True)
def _not_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUICPIPE_LAB_REQUIRE", raising=False)


def run(pytester: pytest.Pytester, source: str, *arguments: str) -> pytest.RunResult:
    pytester.makepyfile(source)
    options = ["-p", "no:cacheprovider", "--strict-markers", f"--basetemp={pytester.path}/tmp"]
    return pytester.runpytest_inprocess(*options, *arguments)


def directories(text: str) -> list[Path]:
    """Those that reports name, in their order."""
    return [Path(found) for found in re.findall(r"^run directory: (.+)$", text, re.MULTILINE)]


def test_the_readmes_example(pytester: pytest.Pytester) -> None:
    users_programs.install(pytester.path)
    (example,) = re.findall(r"```python\n(import pytest\n.*?)```", README, re.DOTALL)
    done = run(pytester, example, "-v")
    done.assert_outcomes(passed=2)
    assert "test_my_peers_connect[EIM/APDF-home] PASSED" in done.stdout.str()
    assert "test_my_peers_connect[symmetric-home] PASSED" in done.stdout.str()
    assert not list((pytester.path / "tmp").glob("*-lab*")), "what nobody wants was kept"


def test_a_failure_says_what_was_dropped_and_where_the_rest_is(pytester: pytest.Pytester) -> None:
    users_programs.install(pytester.path)
    (example,) = re.findall(r"```python\n(import pytest\n.*?)```", README, re.DOTALL)
    done = run(pytester, example.replace('== (nat_pair.expected == "direct")', ""))
    done.assert_outcomes(passed=1, failed=1)
    text = done.stdout.str()
    section = text[text.index(SECTION) :]
    assert "alice: ./peer relay:9000 ended with 0" in section
    # Alice is behind the symmetric one: bob's NAT alone keeps them apart, and core drops nothing.
    drops = re.findall(r"^\d+ datagrams? from .*: dropped by (\S+): (\w+)", section, re.MULTILINE)
    assert drops
    assert set(drops) <= {("nat-b", "filtered"), ("nat-a", "filtered")}
    assert ("nat-b", "filtered") in drops
    (directory,) = directories(text)
    assert (directory / "capture.pcapng").stat().st_size > 1000
    assert (directory / "001-relay-rendezvous.stdout").read_text("utf-8") == "ready\n"


def test_scenarios_are_explained(pytester: pytest.Pytester) -> None:
    source = """
        import pytest

        @pytest.mark.lab(scenario="symmetric-to-symmetric")
        def test_marked(run_scenario):
            assert run_scenario().outcome == "direct"

        @pytest.mark.nat_pair("symmetric", accepters="home")
        def test_simulated(run_scenario, nat_pair):
            result = run_scenario(backend="sim")
            assert (result.backend, result.outcome) == ("sim", nat_pair.expected)
    """
    done = run(pytester, source, "--lab-keep")
    done.assert_outcomes(passed=1, failed=1)
    text = done.stdout.str()
    assert "symmetric-to-symmetric on netns: relayed, expected relayed" in text
    assert "relayed, because both NATs map per destination (APDM): alice's" in text
    (directory,) = directories(text)
    assert (directory / "result.json").exists()
    kept = {path.resolve() for path in (pytester.path / "tmp").glob("test_*/result.json")}
    assert len(kept) == 2  # by --lab-keep


def test_what_tests_do_in_labs(pytester: pytest.Pytester) -> None:
    source = f"""
        import asyncio, sys
        import pytest
        from quicpipe_lab.errors import QuicpipeLabError
        from quicpipe_lab.model.topology import Host, Link, Relay, Topology

        mine = Topology("mine", (Host("eve"), Relay("relay")),
            (Link(("core", "eve")), Link(("core", "relay"))))
        python = [{sys.executable!r}, "-u", "-S", "-c"]

        @pytest.mark.lab(mine)
        def test_programs(lab):
            assert sorted(lab) == ["core", "eve", "relay"]
            echo = lab["eve"].run([*python, "print(input())"], input="word")
            assert (echo.stdout, lab["eve"].address) == ("word\\n", "198.18.0.6")
            with lab["eve"].start([*python, "print(1); import signal; signal.pause()"]) as program:
                assert program.wait_for("^1$").group() == "1"
                with pytest.raises(QuicpipeLabError, match="on eve still runs after 0.01 s"):
                    program.wait(0.01)
                with pytest.raises(QuicpipeLabError, match="has not written '2' within 0.01 s"):
                    program.wait_for("2", 0.01)
            assert program.wait().exit_code == -9
            short = lab["eve"].start([*python, "raise SystemExit(3)"])
            with pytest.raises(QuicpipeLabError, match="ended with 3 and never wrote 'more'"):
                short.wait_for("more")

        def test_cuts(lab):  # two-homes, where nothing is said
            send = [*python, "import socket as s, sys; u = s.socket(s.AF_INET, s.SOCK_DGRAM);"
                "u.sendto(b'x', (sys.argv[1], 9))"]
            lab.cut("core", "relay")
            assert lab["alice"].run([*send, "relay"]).ok
            assert lab.direct_datagrams("alice", "relay") == 0
            (line,) = lab.dropped()
            assert "dropped by core: the way on is cut" in line

        @pytest.mark.lab("dual-stack-translated")
        def test_ipv6(lab):
            listen = "import socket as s; u = s.socket(s.AF_INET6, s.SOCK_DGRAM)"
            listen += "; u.bind(('', 9)); print(1); u.recv(9); u.recv(9)"
            send = "import socket as s; a = s.getaddrinfo('relay', 9, s.AF_INET6, 2)[0][4]"
            send += "; s.socket(s.AF_INET6, s.SOCK_DGRAM).sendto(b'x', a)"
            server = lab["relay"].start([*python, listen])
            server.wait_for("1")
            for node in ("alice", "bob"):
                lab[node].run([*python, send]).check()
            server.wait().check()
            counts = [lab.direct_datagrams(node, "relay") for node in ("alice", "bob", "carol")]
            assert counts == [1, 1, 0]
            with pytest.raises(QuicpipeLabError, match="'core' is a router"):
                lab.direct_datagrams("core", "bob")
            with pytest.raises(QuicpipeLabError, match="did you mean 'alice'"):
                lab.went_direct("alcie", "bob")

        @pytest.mark.lab(topology="one-home")
        def test_asyncio(async_lab):
            async def story():
                async with async_lab as lab:
                    return await lab["alice"].run([*python, "print(7)"])
            assert asyncio.run(story()).stdout == "8\\n"
    """
    done = run(pytester, source)
    done.assert_outcomes(passed=3, failed=1)
    (directory,) = directories(done.stdout.str())
    assert (directory / "capture.pcapng").exists()
    (output,) = directory.glob("001-alice-*.stdout")
    assert output.read_text("utf-8") == "7\n"
