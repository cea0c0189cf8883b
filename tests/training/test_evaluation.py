"""Evaluation against transformers: likelihoods, accuracy over pairs, held-out text, samples, the command."""

import io
import json
import math
import os
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from typer.testing import CliRunner

from byollm.data.prepare import prepare
from byollm.modeling import Decoder, DecoderConfig, Tokenizer, load_decoder, save_decoder
from byollm.settings import ByollmError, DataSettings, PretrainSettings
from byollm.training.evaluation.errors import EvaluationError
from byollm.training.evaluation.held_out import validate_held_out
from byollm.training.evaluation.prefix_tree import prefix_trees
from byollm.training.evaluation.samples import CONTINUATIONS, QUESTIONS
from byollm.training.evaluation.scorer import DecoderScorer, document_start
from byollm.training.evaluation.tasks import run_tasks

WORDS = [
    "the",
    "cat",
    "dogs",
    "see",
    "sees",
    "a",
    "house",
    "many",
    "girls",
    "insulted",
    "themselves",
    "herself",
]
CONTEXT = 128  # the tiny model's


def sentence(chance: random.Random, words: int = 6) -> str:
    return " ".join(chance.choices(WORDS, k=words)).capitalize() + "."


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text prepared by the real command's function: a tokenizer and token shards."""
    directory = tmp_path_factory.mktemp("prepared")
    chance = random.Random(0)
    documents = ["\n".join(sentence(chance) for _ in range(12)) for _ in range(40)]
    (directory / "text.txt").write_text("\n\n".join(documents))
    settings = DataSettings.model_validate(
        {
            "directory": directory,
            "output": directory / "out",
            "sources": [{"path": "text.txt", "documents": "blank-lines"}],
            "conversations": [],
            "vocab_size": 280,
        }
    )
    prepare(settings)
    return settings.output


@pytest.fixture(scope="module")
def model(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model with the tokenizer of the prepared text."""
    tokenizer = Tokenizer.load(prepared / "tokenizer")
    torch.manual_seed(1)
    config = DecoderConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=8,
        intermediate_size=64,
        max_positions=CONTEXT,
        qk_norm=True,
        tie_embeddings=True,
    )
    decoder = Decoder(config)
    with torch.no_grad():
        decoder.embed_tokens.weight.mul_(20)  # likelihoods that differ
    directory = tmp_path_factory.mktemp("model") / "tiny"
    save_decoder(decoder, directory, tokenizer=tokenizer)
    return directory


@pytest.fixture(scope="module")
def scorer(model: Path) -> DecoderScorer:
    return DecoderScorer(load_decoder(model, torch.float32), Tokenizer.load(model))


@pytest.fixture(scope="module")
def reference(model: Path) -> Callable[[list[int], int], tuple[float, bool]]:
    """Log-likelihood of the last tokens of a sequence, and whether they are greedy, by transformers."""
    from transformers import AutoModelForCausalLM

    peer = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)

    @torch.inference_mode()
    def likelihood(ids: list[int], scored: int) -> tuple[float, bool]:
        logits = peer(torch.tensor([ids[:-1]])).logits[0, -scored:].double()
        targets = torch.tensor(ids[-scored:])
        chosen = F.log_softmax(logits, dim=-1).gather(1, targets[:, None])
        return float(chosen.sum()), bool((logits.argmax(-1) == targets).all())

    return likelihood


def requests(*arguments: tuple[str, ...]) -> list[SimpleNamespace]:
    return [SimpleNamespace(args=given, task_name="made up") for given in arguments]


def pack(directory: Path, paradigms: dict[str, list[dict[str, Any]]]) -> Path:
    """Write a pack in BLiMP's layout."""
    directory.mkdir(parents=True, exist_ok=True)
    with tarfile.open(directory / "blimp.tar.xz", "w:xz") as archive:
        for name, pairs in paradigms.items():
            content = "".join(json.dumps(pair) + "\n" for pair in pairs).encode()
            entry = tarfile.TarInfo(f"blimp/data/{name}.jsonl")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return directory


def test_log_likelihoods_equal_those_of_transformers(
    scorer: DecoderScorer, reference: Callable[[list[int], int], tuple[float, bool]]
) -> None:
    chance = random.Random(2)
    pairs = [("", sentence(chance, chance.randint(1, 9))) for _ in range(40)]
    pairs += [(sentence(chance, chance.randint(1, 90)), " " + sentence(chance, 3)) for _ in range(40)]
    scores = scorer.loglikelihood(requests(*pairs))
    start, encode = document_start(scorer.text), scorer.text.encode
    for (context, continuation), (likelihood, greedy) in zip(pairs, scores, strict=True):
        whole = encode(context + continuation)
        scored = len(whole) - len(encode(context))
        # as much of the context as fits
        ids = (whole if context else [start, *whole])[-(CONTEXT + 1) :]
        expected, expected_greedy = reference(ids, scored)
        assert likelihood == pytest.approx(expected, abs=2e-4)
        assert greedy == expected_greedy


def test_a_sliding_window_is_honoured(model: Path) -> None:
    tokenizer = Tokenizer.load(model)
    torch.manual_seed(2)
    config = DecoderConfig(
        family="mistral",
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=8,
        intermediate_size=64,
        max_positions=CONTEXT,
        sliding_window=6,
        sliding_layers=(0, 1),
    )
    decoder = Decoder(config)
    chance = random.Random(6)
    texts = [sentence(chance, 12) for _ in range(4)]
    texts += [text[:-8] + "." for text in texts]  # what begins alike is computed once
    scores = DecoderScorer(decoder, tokenizer).loglikelihood(requests(*(("", text) for text in texts)))
    for text, (likelihood, _) in zip(texts, scores, strict=True):
        ids = torch.tensor([[document_start(tokenizer), *tokenizer.encode(text)]])
        hidden = decoder(ids[:, :-1], torch.arange(ids.shape[1] - 1))
        loss = F.cross_entropy(decoder.logits(hidden)[0], ids[0, 1:], reduction="sum")
        assert likelihood == pytest.approx(-loss.item(), abs=1e-4)


def test_trees_hold_every_sequence_and_share_what_begins_alike() -> None:
    chance = random.Random(7)
    sequences = [[chance.randrange(3) for _ in range(chance.randint(1, 6))] for _ in range(300)]
    sequences.append([9] * 50)  # longer than a tree may be
    trees = list(prefix_trees(sequences, capacity=20))
    held = {
        index: [tree.tokens[node] for node in path] for tree in trees for index, path in tree.paths.items()
    }
    assert [held[index] for index in range(len(sequences))] == sequences
    for tree in trees:
        assert len(tree.tokens) <= 20 or list(held[next(iter(tree.paths))]) == [9] * 50
        branches = {(parent, token) for parent, token in zip(tree.parents, tree.tokens, strict=True)}
        assert len(branches) == len(tree.tokens)  # no token stands twice in one place
    assert sum(len(tree.tokens) for tree in trees) < sum(map(len, sequences)) / 2


def test_a_greedy_continuation_is_told(
    scorer: DecoderScorer, reference: Callable[[list[int], int], tuple[float, bool]]
) -> None:
    prompt = scorer.text.encode("The cat")
    likeliest = max(range(scorer.text.vocab_size), key=lambda token: reference([*prompt, token], 1)[0])
    answers = scorer._loglikelihood_tokens(
        [(("", ""), prompt, [token]) for token in (likeliest, likeliest ^ 1)]
    )
    assert [greedy for _, greedy in answers] == [True, False]


def test_a_long_text_is_scored_in_windows_each_token_once(
    scorer: DecoderScorer, reference: Callable[[list[int], int], tuple[float, bool]]
) -> None:
    chance = random.Random(3)
    text = " ".join(sentence(chance) for _ in range(40))
    ids = scorer.text.encode(text)
    assert len(ids) > 2 * CONTEXT
    expected, sequence = 0.0, [document_start(scorer.text), *ids]
    expected += reference(sequence[: CONTEXT + 1], CONTEXT)[0]
    for begin in range(CONTEXT, len(ids), CONTEXT):
        scored = min(CONTEXT, len(ids) - begin)
        window = sequence[begin + scored - CONTEXT : begin + scored + 1]
        # lm-eval fills the last window up with what came before
        expected += reference(window, scored)[0]
    short = scorer.text.encode("A cat.")
    rolled = scorer.loglikelihood_rolling(requests((text,), ("A cat.",)))
    alone = reference([document_start(scorer.text), *short], len(short))[0]
    assert rolled == pytest.approx([expected, alone], abs=1e-3)


def test_accuracy_counts_the_pairs_whose_good_sentence_is_likelier(
    scorer: DecoderScorer, reference: Callable[[list[int], int], tuple[float, bool]], tmp_path: Path
) -> None:
    chance = random.Random(4)
    start, encode = document_start(scorer.text), scorer.text.encode

    def pair(right: bool, phenomenon: str) -> dict[str, str]:
        texts = [sentence(chance, 5), sentence(chance, 5)]
        ranked = sorted(texts, key=lambda text: reference([start, *encode(text)], len(encode(text)))[0])
        good, bad = (ranked[1], ranked[0]) if right else (ranked[0], ranked[1])
        return {"sentence_good": good, "sentence_bad": bad, "linguistics_term": phenomenon}

    directory = pack(
        tmp_path,
        {
            "all_right": [pair(True, "agreement") for _ in range(10)],
            "three_of_ten": [pair(i < 3, "agreement") for i in range(10)],
            "all_wrong": [pair(False, "islands") for _ in range(4)],
        },
    )
    [score] = run_tasks(scorer, ["blimp"], directory)
    assert score.metrics["acc"] == pytest.approx(13 / 24)
    assert score.samples == 24
    assert score.chance == 0.5
    assert 0.02 < score.metrics["acc_stderr"] < 0.1
    phenomena = {part.task: part for part in score.parts}
    assert {name: part.metrics["acc"] for name, part in phenomena.items()} == {
        "blimp_agreement": pytest.approx(0.65),
        "blimp_islands": 0.0,
    }
    paradigms = {part.task: part.metrics["acc"] for part in phenomena["blimp_agreement"].parts}
    assert paradigms == {"blimp_all_right": 1.0, "blimp_three_of_ten": pytest.approx(0.3)}
    one = run_tasks(scorer, ["blimp_three_of_ten", "blimp_islands"], directory, limit=3)
    assert {part.task: (part.metrics["acc"], part.samples) for part in one} == {
        "blimp_three_of_ten": (1.0, 3),
        "blimp_islands": (0.0, 3),
    }
    with pytest.raises(EvaluationError, match=r"blimp_agreement, blimp_islands.*close to it: blimp_islands"):
        run_tasks(scorer, ["blimp_island"], directory)


def test_a_task_of_a_yaml_file_runs(scorer: DecoderScorer, tmp_path: Path) -> None:
    (tmp_path / "docs.jsonl").write_text('{"q": "The cat", "right": " sees", "wrong": " see"}\n' * 3)
    choosing = {
        "task": "choosing",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "docs.jsonl")}, "cache_dir": str(tmp_path)},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}}",
        "doc_to_target": 0,
        "doc_to_choice": "{{[right, wrong]}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    file = tmp_path / "choosing.yaml"
    file.write_text(json.dumps(choosing))  # JSON is YAML
    [score] = run_tasks(scorer, [str(file)], tmp_path)
    assert (score.task, score.samples, score.chance) == ("choosing", 3, None)
    assert score.metrics["acc"] in (0.0, 1.0)
    file.write_text(json.dumps(choosing | {"output_type": "generate_until", "metric_list": None}))
    with pytest.raises(EvaluationError, match="choosing lets the model write"):
        run_tasks(scorer, [str(file)], tmp_path)
    file.write_text(json.dumps(choosing | {"dataset_kwargs": {"data_files": {"test": "absent.jsonl"}}}))
    with pytest.raises(EvaluationError, match=r"cannot be loaded: Unable to find .*absent\.jsonl"):
        run_tasks(scorer, [str(file)], tmp_path)


def test_an_unknown_task_is_refused_with_what_there_is(scorer: DecoderScorer, tmp_path: Path) -> None:
    with pytest.raises(
        EvaluationError, match=r"unknown task 'hellaswagg'; there is blimp.*close.*: hellaswag"
    ):
        run_tasks(scorer, ["hellaswagg"], tmp_path)


def test_an_absent_pack_names_the_setting(scorer: DecoderScorer, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"blimp\.tar\.xz.*data\.directory \(BYOLLM__DATA__DIRECTORY\)"):
        run_tasks(scorer, ["blimp"], tmp_path)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([{"sentence_good": "A.", "sentence_bad": "B."}], r"p\.jsonl, line 1: not a BLiMP pair"),
        (
            [{"sentence_good": "A.", "sentence_bad": "", "linguistics_term": "x"}],
            r"p\.jsonl, line 1: a sentence is empty",
        ),
        ([], "lacks pairs"),
    ],
)
def test_a_damaged_pack_says_where(
    scorer: DecoderScorer, tmp_path: Path, pairs: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(EvaluationError, match=message):
        run_tasks(scorer, ["blimp"], pack(tmp_path, {"p": pairs}))
    (tmp_path / "blimp.tar.xz").write_bytes(b"no archive")
    with pytest.raises(EvaluationError, match="cannot be read"):
        run_tasks(scorer, ["blimp"], tmp_path)


def test_held_out_text_is_predicted_as_transformers_does(
    model: Path, prepared: Path, reference: Callable[[list[int], int], tuple[float, bool]]
) -> None:
    seen: list[tuple[int, int]] = []
    found = validate_held_out(
        load_decoder(model, torch.float32),
        model / "tokenizer.json",
        prepared,
        length=32,
        batch_size=3,
        advance=lambda done, total: seen.append((done, total)),
    )
    manifest = json.loads((prepared / "manifest.json").read_text())["splits"]["val"]
    [shard] = manifest["shards"]
    tokens = torch.frombuffer(
        bytearray((prepared / f"{shard['name']}.bin").read_bytes()), dtype=torch.uint16
    ).tolist()
    nats = 0.0
    for begin in range(0, len(tokens) - 1, 32):
        row = tokens[begin : begin + 33]
        nats -= reference(row, len(row) - 1)[0]
    assert found.tokens == len(tokens) - 1
    assert found.loss == pytest.approx(nats / (len(tokens) - 1), rel=1e-5)
    bits_per_token = nats / math.log(2) / (len(tokens) - 1)
    assert found.bits_per_byte == pytest.approx(bits_per_token * len(tokens) / manifest["bytes"], rel=1e-5)
    rows = math.ceil((len(tokens) - 1) / 32)
    assert seen == [(done, rows) for done in range(1, rows + 1)]


def test_text_of_another_tokenizer_is_refused(model: Path, prepared: Path, tmp_path: Path) -> None:
    other = json.loads((model / "tokenizer.json").read_text())
    vocabulary = other["model"]["vocab"]
    first, second = list(vocabulary)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (tmp_path / "tokenizer.json").write_text(json.dumps(other))
    decoder = load_decoder(model, torch.float32)
    with pytest.raises(EvaluationError, match="prepared with another tokenizer"):
        validate_held_out(decoder, tmp_path / "tokenizer.json", prepared, length=32, batch_size=4)


def test_a_document_starts_with_bos_or_end_of_text(model: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(model)
    assert tokenizer.bos_id is None
    assert document_start(tokenizer) == 0
    tokenizer.save(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"bos_token": "<|im_start|>"}))
    assert document_start(Tokenizer.load(tmp_path)) == 1


def test_the_command_writes_every_figure_and_samples(
    model: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from byollm.cli.main import app

    chance = random.Random(5)
    pairs = [
        {"sentence_good": sentence(chance), "sentence_bad": sentence(chance), "linguistics_term": "agreement"}
        for _ in range(6)
    ]
    pack(tmp_path / "packs", {"made_up": pairs})
    monkeypatch.setitem(os.environ, "BYOLLM__DATA__DIRECTORY", str(tmp_path / "packs"))
    out, samples = tmp_path / "figures" / "report.json", tmp_path / "samples.md"
    arguments = ["--prepared", prepared, "--out", out, "--samples", samples]
    given = ["evaluate", "--model", str(model), *map(str, arguments)]
    first = CliRunner().invoke(app, given)
    assert first.exit_code == 0, first.output
    report = json.loads(out.read_text())
    [score] = report["tasks"]
    assert (report["model"], score["task"], score["samples"]) == ("tiny", "blimp", 6)
    assert report["parameters"] == load_decoder(model).config.num_parameters()
    assert report["held_out"]["bits_per_byte"] > 0
    assert set(report["versions"]) == {"byollm", "lm_eval", "torch"}
    for said in ("blimp_agreement", "50%", "bits per byte", f"{score['metrics']['acc']:.2%}"):
        assert said in first.output
    written = samples.read_text()
    for prompt in (*CONTINUATIONS, *QUESTIONS):
        assert f"**{prompt}**" in written
    assert written.count("- greedy: ") == written.count("- drawn: ") == len(CONTINUATIONS) + len(QUESTIONS)
    samples.unlink()
    again = CliRunner().invoke(
        app, ["evaluate", "--model", str(model), "--tasks", "", "--samples", str(samples)]
    )
    assert again.exit_code == 0, again.output
    assert samples.read_text() == written  # seeded


def test_nothing_to_evaluate_is_said(model: Path) -> None:
    from byollm.cli.main import app

    result = CliRunner().invoke(app, ["evaluate", "--model", str(model), "--tasks", ""])
    assert isinstance(result.exception, ByollmError)
    assert "nothing to evaluate" in str(result.exception)
    assert PretrainSettings().sequence_length > CONTEXT  # the rows of a validation are shortened to fit
