"""Token shards as training windows: exact contents, every window once, the same for the same arguments."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from byollm.data import DataError, TokenDataset
from byollm.data.prepare import prepare
from byollm.settings.data import DataSettings

MakeSettings = Callable[..., DataSettings]


@pytest.fixture
def ring() -> TokenDataset:
    """Tokens 0 to 102 in three shards."""
    return TokenDataset(np.split(np.arange(103, dtype="<u2"), [40, 41]), text_bytes=300, vocab_size=103)


def test_targets_are_the_inputs_one_token_on(ring: TokenDataset) -> None:
    inputs, targets = ring.batch(step=3, batch_size=4, length=10, seed=0)
    assert inputs.shape == targets.shape == (4, 10)
    assert inputs.dtype == targets.dtype == torch.int64
    assert torch.equal(targets, (inputs + 1) % 103)
    assert torch.equal(inputs, (inputs[:, :1] + torch.arange(10)) % 103)


def test_an_epoch_visits_each_window_once_in_an_order_of_its_own(ring: TokenDataset) -> None:
    assert ring.windows_per_epoch(10) == 10
    epochs = [ring.batch(step, 10, 10, seed=0)[0] for step in range(3)]
    for epoch in epochs:
        seen = epoch.flatten().tolist()
        assert len(set(seen)) == 100  # 103 tokens hold ten windows of ten
        starts = sorted(epoch[:, 0].tolist())
        gaps = {(b - a) % 103 for a, b in zip(starts, starts[1:] + starts[:1], strict=True)}
        assert gaps <= {10, 13}
    assert not torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[1], epochs[2])


def test_a_batch_depends_on_its_arguments_only(ring: TokenDataset) -> None:
    small = [ring.batch(step, 3, 10, seed=5)[0] for step in range(10)]
    large = [ring.batch(step, 6, 10, seed=5)[0] for step in range(5)]
    assert torch.equal(torch.cat(small), torch.cat(large))
    assert torch.equal(ring.batch(7, 3, 10, seed=5)[0], small[7])
    assert not torch.equal(ring.batch(7, 3, 10, seed=6)[0], small[7])


def test_validation_windows_cover_every_target_once_in_order(ring: TokenDataset) -> None:
    windows = list(ring.windows(10))
    assert all(inputs.shape == targets.shape == (10,) for inputs, targets in windows)
    targets = torch.cat([targets for _, targets in windows])
    assert targets[targets >= 0].tolist() == list(range(1, 103))
    inputs, last = windows[-1]
    assert inputs.tolist() == [100, 101, 0, 0, 0, 0, 0, 0, 0, 0]
    assert last.tolist() == [101, 102] + [-100] * 8


def test_fewer_tokens_than_a_window_are_refused(ring: TokenDataset) -> None:
    with pytest.raises(DataError, match="103 tokens, fewer than one window of 104"):
        ring.batch(0, 1, 104, seed=0)
    assert ring.batch(0, 1, 103, seed=0)[0].shape == (1, 103)


def test_a_prepared_directory_opens(corpus: Path, settings: MakeSettings) -> None:
    made = settings([{"path": "text.txt", "documents": "blank-lines"}], shard_tokens=3000)
    manifest = prepare(made)
    train, val = TokenDataset.open(made.output, "train"), TokenDataset.open(made.output, "val")
    for split, dataset in (("train", train), ("val", val)):
        part = manifest["splits"][split]
        assert (dataset.tokens, dataset.bytes, dataset.vocab_size) == (part["tokens"], part["bytes"], 300)
    stream = np.concatenate(
        [
            np.fromfile(made.output / f"{shard['name']}.bin", "<u2")
            for shard in manifest["splits"]["train"]["shards"]
        ]
    )
    windows = torch.cat([inputs for inputs, _ in train.windows(64)])
    assert windows[: len(stream) - 1].tolist() == stream[:-1].tolist()
    assert stream[0] == 0


def test_what_is_not_prepared_or_has_changed_is_refused(
    corpus: Path, settings: MakeSettings, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"no finished data here .*`byollm data prepare"):
        TokenDataset.open(tmp_path, "train")
    made = settings()
    prepare(made)
    with pytest.raises(DataError, match=r"not a manifest with a split 'test'"):
        TokenDataset.open(made.output, "test")
    with (made.output / "val-00000.bin").open("ab") as file:
        file.write(b"..")
    with pytest.raises(DataError, match=r"val-00000\.bin: not the size the manifest says"):
        TokenDataset.open(made.output, "val")
    (made.output / "val-00000.bin").unlink()
    with pytest.raises(DataError, match="shards are missing"):
        TokenDataset.open(made.output, "val")
