"""A decoder as lm-eval sees it: something that gives the log-likelihood of a text after another."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from torch import Tensor

from byollm.modeling import Decoder, Tokenizer
from byollm.training.evaluation.errors import EvaluationError
from byollm.training.evaluation.prefix_tree import PrefixTree, attend_along_branches, pad_trees, prefix_trees
from byollm.training.evaluation.progress import Advance

END_OF_TEXT = "<|endoftext|>"
TREE_NODES = 128  # more would share more, but attention computes every pair of nodes
BATCH_NODES = {"cpu": 1024, "cuda": 65_536}  # a CPU's cache wants few, a GPU many


class DecoderScorer(TemplateLM):  # type: ignore[misc]  # lm-eval carries no types
    """Scores texts with a decoder; what several texts begin with is computed once, sums are in float64.

    A text without a context follows the token that documents begin with in training, as it did there.

    Args:
        decoder: in the precision and on the device in which it shall score; left in evaluation mode
        tokenizer: its tokenizer
        advance: told of progress
    """

    def __init__(self, decoder: Decoder, tokenizer: Tokenizer, advance: Advance | None = None) -> None:
        super().__init__()
        self.decoder = decoder.eval()
        self.text = tokenizer
        self.max_length = decoder.config.max_positions
        self._device = decoder.device
        self.advance = advance

    @property
    def eot_token_id(self) -> int:
        """The token that stands before a text."""
        return document_start(self.text)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Encode plain text; nothing is added to it."""
        return self.text.encode(string)

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """Return the log-likelihood of each continuation of a context, and whether it is the greedy one."""
        scores: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=disable_tqdm)
        return scores

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[float]:
        """Return the log-likelihood of each whole text, in windows of the model's context."""
        windows = [
            [
                (("", ""), *make_disjoint_window(window))
                for window in get_rolling_token_windows(
                    self.tok_encode(request.args[0]), self.eot_token_id, self.max_length, context_len=1
                )
            ]
            for request in requests
        ]
        scores = iter(self._loglikelihood_tokens([window for text in windows for window in text]))
        return [sum(next(scores)[0] for _ in text) for text in windows]

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[str]:
        """Refuse: the scorer compares likelihoods.

        Raises:
            EvaluationError: always.
        """
        raise EvaluationError(
            f"task {requests[0].task_name} lets the model write; `byollm evaluate` runs tasks that compare "
            "likelihoods. For this one, serve the model and run lm-eval's local-completions against it"
        )

    @torch.inference_mode()
    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        texts = [(context, continuation) for _, context, continuation in requests]
        continuations = [continuation for _context, continuation in texts]
        longest = max(map(len, continuations), default=0)
        if longest > self.max_length:
            raise EvaluationError(
                f"a continuation of {longest} tokens does not fit the model's context of {self.max_length}; "
                "choose a task with shorter texts"
            )
        # Of a context that leaves too little room, the beginning is forgotten.
        inputs = [(context + continuation)[-(self.max_length + 1) : -1] for context, continuation in texts]
        scores: list[tuple[float, bool]] = [(0.0, True)] * len(texts)
        done = 0
        for batch in self._batches(inputs):
            scored = self._score(batch, continuations)
            for index, score in scored.items():
                scores[index] = score
            done += len(scored)
            if self.advance is not None:
                self.advance(done, len(texts))
        return scores

    def _batches(self, inputs: Sequence[list[int]]) -> Iterator[list[PrefixTree]]:
        """Yield trees of similar size, the largest first: want of memory shows at once."""
        budget = BATCH_NODES[self._device.type]
        trees = sorted(prefix_trees(inputs, TREE_NODES), key=lambda tree: -len(tree.tokens))
        while trees:
            size = max(1, budget // len(trees[0].tokens))
            yield trees[:size]
            trees = trees[size:]

    def _score(
        self, trees: Sequence[PrefixTree], continuations: Sequence[list[int]]
    ) -> dict[int, tuple[float, bool]]:
        """Score every text in `trees`, by its number."""
        tokens, positions, seen = (part.to(self._device) for part in pad_trees(trees))
        attend = attend_along_branches(self.decoder.config, positions, seen)
        hidden = self.decoder(tokens, positions, attend).flatten(0, 1)  # (trees * nodes, hidden)
        texts = [index for tree in trees for index in tree.paths]
        targets = [continuations[index] for index in texts]
        before = [  # the node that predicts each target
            number * tokens.shape[1] + node
            for number, tree in enumerate(trees)
            for index, path in tree.paths.items()
            for node in path[len(path) - len(continuations[index]) :]
        ]
        likelihoods, greedy = self._token_scores(hidden, before, [t for target in targets for t in target])
        of_text = torch.repeat_interleave(torch.tensor([len(target) for target in targets]))
        sums = torch.zeros(len(texts), dtype=torch.float64).index_add_(0, of_text, likelihoods)
        misses = torch.zeros(len(texts)).index_add_(0, of_text, (~greedy).float())
        return dict(zip(texts, zip(sums.tolist(), (misses == 0).tolist(), strict=True), strict=True))

    def _token_scores(
        self, hidden: Tensor, nodes: Sequence[int], targets: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Return the log-likelihood of each target after its node, and whether it is the likeliest token."""
        wanted = torch.tensor(targets, device=self._device)
        once, place = torch.unique(torch.tensor(nodes, device=self._device), return_inverse=True)
        logits = self.decoder.logits(hidden[once]).float()  # (nodes, vocab)
        likelihoods = logits[place, wanted].double() - logits.logsumexp(-1)[place]
        return likelihoods.cpu(), (logits.argmax(-1)[place] == wanted).cpu()


def document_start(tokenizer: Tokenizer) -> int:
    """Return the token that a document follows: bos, else <|endoftext|>, else the end of sequence.

    Raises:
        EvaluationError: the tokenizer has none of them.
    """
    if tokenizer.bos_id is not None:
        return tokenizer.bos_id
    ids = tokenizer.encode(END_OF_TEXT)
    if len(ids) == 1:
        return ids[0]
    if tokenizer.eos_id is not None:
        return tokenizer.eos_id
    raise EvaluationError(
        f"the tokenizer has neither a bos token nor {END_OF_TEXT} nor an eos token to start a text with; "
        "name one in its tokenizer_config.json"
    )
