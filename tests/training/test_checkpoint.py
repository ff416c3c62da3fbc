"""Checkpoints survive death at any moment, and damage is noticed."""

import json
import multiprocessing
import os
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from datalake.config import Refusal
from training import checkpoint


def save(folder: Path, step: int, **options: int) -> checkpoint.Checkpoint:
    state = {
        "weights": {"w": torch.full((3, 2), float(step)), "b": torch.arange(4).bfloat16()},
        "optimizer": {"moments": {"w": torch.ones(3)}, "rates": [0.1, 0.2]},
    }
    return checkpoint.save(folder, step, state, {"seconds": 1.5, "about": {"table": 7}}, **options)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    made = save(tmp_path, 12)
    found = checkpoint.latest(tmp_path)
    assert found is not None and found.path == made.path and found.step == 12
    assert found.manifest == made.manifest
    assert found.manifest["about"] == {"table": 7}
    assert found.load("optimizer")["rates"] == [0.1, 0.2]
    assert found.load("weights")["b"].dtype == torch.bfloat16


def test_weights_load_without_the_rest(tmp_path: Path) -> None:
    weights = checkpoint.load_weights(save(tmp_path, 3).path)
    assert torch.equal(weights["w"], torch.full((3, 2), 3.0))
    plain = torch.load(tmp_path / "step-000000003" / "weights.pt", weights_only=True)
    assert plain.keys() == weights.keys()


def test_an_empty_or_missing_folder_has_no_checkpoint(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path) is None
    assert checkpoint.latest(tmp_path / "missing") is None


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3, 10):
        save(tmp_path, step, keep=2)
    assert sorted(path.name for path in tmp_path.glob("step-*")) == [
        "step-000000003",
        "step-000000010",
    ]


@pytest.mark.parametrize("name", ["weights.pt", "optimizer.pt", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_the_previous_checkpoint_counts_when_a_file_of_the_newest_is_damaged(
    tmp_path: Path, name: str, damage: str
) -> None:
    save(tmp_path, 1)
    file = save(tmp_path, 2).path / name
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    else:
        file.unlink()
    found = checkpoint.latest(tmp_path)
    assert found is not None and found.step == 1


@pytest.mark.parametrize("content", [None, b"", b"{", b"[1]", b'{"checkpoint": "step-000000099"}'])
def test_a_missing_or_damaged_pointer_is_made_up_for_by_the_newest_good_checkpoint(
    tmp_path: Path, content: bytes | None
) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    pointer = tmp_path / "latest.json"
    pointer.unlink() if content is None else pointer.write_bytes(content)
    found = checkpoint.latest(tmp_path)
    assert found is not None and found.step == 2


def test_a_damaged_future_goes_when_the_run_has_gone_back(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (save(tmp_path, 9).path / "weights.pt").write_bytes(b"noise")
    save(tmp_path, 2, keep=1)
    found = checkpoint.latest(tmp_path)
    assert found is not None and found.step == 2
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-000000002"]


def _save_and_die(folder: Path, calls_until_death: int) -> None:
    """Save step 2, but end the process without a word after so many calls of ``os.fsync``."""
    fsync = os.fsync
    left = calls_until_death

    def counted(descriptor: int) -> None:
        nonlocal left
        if left == 0:
            os._exit(9)
        left -= 1
        fsync(descriptor)

    os.fsync = counted
    save(folder, 2)


def test_a_process_that_dies_at_any_flush_leaves_a_good_checkpoint(tmp_path: Path) -> None:
    seen = set()
    for calls in range(20):
        folder = tmp_path / str(calls)
        save(folder, 1)
        process = multiprocessing.get_context("fork").Process(
            target=_save_and_die, args=(folder, calls)
        )
        process.start()
        process.join()
        found = checkpoint.latest(folder)
        assert found is not None
        seen.add((process.exitcode, found.step))
        save(folder, 3)  # and does not stand in the way of the next
        assert not list(folder.glob(".draft-*"))
        if process.exitcode == 0:
            break
    assert seen == {(9, 1), (9, 2), (0, 2)}


def test_the_digest_of_weights_depends_on_their_content_alone() -> None:
    weights = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(2, dtype=torch.bfloat16)}
    same = {"b": weights["b"].clone(), "a": weights["a"].t().contiguous().t()}
    assert checkpoint.weights_digest(weights) == checkpoint.weights_digest(same)
    for other in (
        weights | {"a": weights["a"].view(3, 2)},
        weights | {"a": weights["a"] + 1e-7},
        weights | {"b": torch.ones(2, dtype=torch.float16)},
        {"c": weights["a"], "b": weights["b"]},
    ):
        assert checkpoint.weights_digest(weights) != checkpoint.weights_digest(other)


def test_random_states_continue_where_they_were_saved(tmp_path: Path) -> None:
    def draw() -> tuple[float, float, float, float]:
        return random.gauss(0, 1), random.random(), np.random.normal(), torch.rand(()).item()

    draw()  # leaves a half-used pair of Gaussians behind
    state = {"random": [checkpoint.random_state()]}
    path = checkpoint.save(tmp_path, 1, state, {}).path
    first = draw()
    assert draw() != first
    checkpoint.set_random_state(checkpoint.load(path).load("random")[0])
    assert draw() == first


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal) as refusal:
        checkpoint.load(tmp_path)
    assert str(refusal.value) == (
        f"checkpoint must be a folder with a readable manifest.json, got {tmp_path}"
    )


def test_a_damaged_file_is_refused_by_name_and_digest(tmp_path: Path) -> None:
    path = save(tmp_path, 1).path
    expected = json.loads((path / "manifest.json").read_text())["files"]["weights.pt"]
    (path / "weights.pt").unlink()
    with pytest.raises(Refusal) as refusal:
        checkpoint.load_weights(path)
    assert str(refusal.value) == (
        f"{path}/weights.pt must have the SHA-256 {expected} of its manifest, got no such file"
    )


def test_a_second_trainer_in_a_folder_is_refused_until_the_first_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "LOCK_PATIENCE_SECONDS", 0.2)
    with checkpoint.hold(tmp_path):
        message = re.escape(
            f"{tmp_path} must have one trainer, got a second one while process {os.getpid()} "
            "holds its lock; wait for it or end it"
        )
        with pytest.raises(Refusal, match=f"^{message}$"), checkpoint.hold(tmp_path):
            pass
    with checkpoint.hold(tmp_path):
        pass
