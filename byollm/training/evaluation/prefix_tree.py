"""Texts that begin alike, computed once: sequences merged into trees, and attention along the branches.

The two sentences of a minimal pair, and the answers to one question, mostly begin with the same tokens. In a
tree each token stands once; it attends to its ancestors, which are the tokens before it in every text that it
is of (the idea of tree attention in speculative decoding, https://arxiv.org/abs/2305.09781).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from byollm.modeling import Attend, DecoderConfig


@dataclass
class PrefixTree:
    """Some sequences as one tree; a node is a token after those of its ancestors."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    """The node before each node; -1: none. A parent stands before its children."""
    depths: list[int] = field(default_factory=list)
    """The position of each node in its sequences."""
    paths: dict[int, list[int]] = field(default_factory=dict)
    """By the number of a sequence: the node of each of its tokens."""


def prefix_trees(sequences: Sequence[Sequence[int]], capacity: int) -> Iterator[PrefixTree]:
    """Merge sequences into trees of at most `capacity` nodes, or of one sequence that is longer alone."""
    tree, path, last = PrefixTree(), list[int](), list[int]()
    for index in sorted(range(len(sequences)), key=lambda index: list(sequences[index])):
        sequence = list(sequences[index])
        shared = _shared(sequence, last)
        if tree.tokens and len(tree.tokens) + len(sequence) - shared > capacity:
            yield tree
            tree, shared = PrefixTree(), 0
        path, last = path[:shared], sequence
        for depth in range(shared, len(sequence)):
            path.append(len(tree.tokens))
            tree.tokens.append(sequence[depth])
            tree.parents.append(path[depth - 1] if depth else -1)
            tree.depths.append(depth)
        tree.paths[index] = path
    if tree.tokens:
        yield tree


def pad_trees(trees: Sequence[PrefixTree]) -> tuple[Tensor, Tensor, Tensor]:
    """Return tokens and positions, both (trees, nodes), and who sees whom, (trees, nodes, nodes)."""
    nodes = max(len(tree.tokens) for tree in trees)
    tokens = torch.zeros(len(trees), nodes, dtype=torch.long)
    positions = torch.zeros(len(trees), nodes, dtype=torch.long)
    # Padding sees itself alone: a softmax over nothing would not be a number.
    seen = torch.eye(nodes, dtype=torch.bool).repeat(len(trees), 1, 1)
    for number, tree in enumerate(trees):
        tokens[number, : len(tree.tokens)] = torch.tensor(tree.tokens)
        positions[number, : len(tree.tokens)] = torch.tensor(tree.depths)
        of_tree = seen[number].numpy()
        for node, parent in enumerate(tree.parents):
            if parent >= 0:
                of_tree[node] |= of_tree[parent]
    return tokens, positions, seen


def attend_along_branches(config: DecoderConfig, positions: Tensor, seen: Tensor) -> Attend:
    """Return the attention of trees that `pad_trees` laid out."""

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        mask = seen
        if (window := config.window(layer)) is not None:
            mask = mask & (positions[:, :, None] - positions[:, None, :] < window)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (trees, heads, nodes, head_dim)
        shared = q.shape[1] != k.shape[1]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None], enable_gqa=shared)
        return out.transpose(1, 2)

    return attend


def _shared(sequence: list[int], other: list[int]) -> int:
    """Count the tokens that two sequences begin with alike."""
    count = 0
    for token, theirs in zip(sequence, other, strict=False):
        if token != theirs:
            break
        count += 1
    return count
