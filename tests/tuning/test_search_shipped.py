"""A search on machines that do not see its folders: one node has a mount namespace of its own."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from clusters import cluster_of_one, node_that_does_not_see
from fakes import TINY
from searching import arguments, curves, events, prepare

from recbole_lcrec import cli
from recbole_lcrec.experiment import evaluate

pytest.importorskip("ray")


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """The address of a cluster whose second node does not see ``tmp_path / "head"``, and that node's own folder."""
    (tmp_path / "head").mkdir()
    with cluster_of_one(monkeypatch) as made:
        with node_that_does_not_see(tmp_path / "head", tmp_path / "node.log", made) as far:
            yield made.address, far


def nodes_of(out: Path) -> dict[str, set[str]]:
    """Return the trials that every node reported of."""
    found: dict[str, set[str]] = {}
    for event in events(out):
        if event["event"] == "reported":
            found.setdefault(event["node"], set()).add(event["trial"])
    return found


def lcrec(folder: Path, options: Path, **changes: Any) -> list[str]:
    space = "learning_rate: {choice: [0.001, 0.003]}\n"
    given = arguments(folder, space, search_alg="grid", epochs=2, **changes)
    own = ("--model=", "--hidden_size", "--inner_size", "--n_layers")
    return [*(a for a in given if not a.startswith(own)), "--model=LCRec", f"--config_files={options}"]


def test_data_index_and_results_travel(tmp_path: Path, cluster: tuple[str, Path]) -> None:
    (address, far), head = cluster, prepare(tmp_path / "head")
    options = tmp_path / "tiny.yaml"
    options.write_text(yaml.safe_dump({**TINY, "show_progress": False}))
    assert cli.main([*lcrec(head, options), f"--address={address}"]) == 0
    out = head / "out"
    assert sorted(map(len, nodes_of(out).values())) == [1, 1]
    log = (out / "search.log").read_text()
    assert "data_path=" in log and "cache_dir=" in log and "output_dir=" in log and "Sent through Ray" in log
    logs = [path.read_text() for path in (out / "trials").glob("*/trial.log")]
    assert len(logs) == 2 and not any("RQ-VAE:" in text for text in logs)  # nobody built the index again
    assert all("from the cache" in text for text in logs)
    assert not list(far.glob("lcrec-trials-*"))
    assert not [path for path in out.rglob(".*")]

    best = json.loads((out / "result.json").read_text())
    trial = out / "trials" / best["trial"]
    saved = yaml.safe_load((trial / "config.yaml").read_text())
    assert (saved["data_path"], saved["cache_dir"]) == (str(head), str(head / "cache"))
    assert saved["output_dir"] == str(trial)
    assert evaluate(trial)["test_result"] == best["test_result"]
    assert [path.parent.name for path in (out / "trials").glob("*/checkpoint")] == [best["trial"]]
    assert {path.name for path in (out / "tensorboard").iterdir()} == {"t0001", "t0002"}

    assert cli.main(lcrec(head, options, output_dir=head / "alone", max_concurrent=1)) == 0
    assert curves(head / "alone") == curves(out)
    assert json.loads((head / "alone" / "result.json").read_text())["test_result"] == best["test_result"]
    assert (head / "alone" / "ranks.csv.gz").read_bytes() == (out / "ranks.csv.gz").read_bytes()


@pytest.mark.slow
def test_a_population_is_copied_between_machines(tmp_path: Path, cluster: tuple[str, Path]) -> None:
    (address, _), head = cluster, prepare(tmp_path / "head")
    space = "learning_rate: {choice: [0.0001, 0.01]}\n"
    given = {"scheduler": "pbt", "search_alg": "grid", "epochs": 4}
    assert cli.main([*arguments(head, space, **given), f"--address={address}"]) == 0
    assert len(nodes_of(head / "out")) == 2
    assert cli.main(arguments(head, space, **given, output_dir=head / "alone")) == 0
    assert any(event.get("copied") for event in events(head / "out"))
    assert curves(head / "out") == curves(head / "alone")
    assert not list((head / "out" / "trials").glob("*/population"))
