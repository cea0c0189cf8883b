"""How likely a text is, as transformers says it."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from byollm.modeling import Decoder, DecoderConfig, Tokenizer
from byollm.training.evaluation.prefix_tree import prefix_trees
from byollm.training.evaluation.scorer import DecoderScorer, document_start
from tests.training.evaluation.support import CONTEXT, sentence


def requests(*arguments: tuple[str, ...]) -> list[SimpleNamespace]:
    return [SimpleNamespace(args=given, task_name="made up") for given in arguments]


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


def test_a_document_starts_with_bos_or_end_of_text(model: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(model)
    assert tokenizer.bos_id is None
    assert document_start(tokenizer) == 0
    tokenizer.save(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"bos_token": "<|im_start|>"}))
    assert document_start(Tokenizer.load(tmp_path)) == 1
