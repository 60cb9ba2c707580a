"""What every re-ranker is told about the items of a list, as one vector per item.

An item is its id, its categories and the user's last interactions as this item attends to them:
the same with and without knowledge, so that "no knowledge" is a personalised baseline (in KAR's
code the history reaches MIR alone). Knowledge enters as the adapted text vector of the item and,
for each text about the user, its adapted vector, the product of both, and the cosine of both texts.
What depends on the item alone is computed once per distinct item of a batch and gathered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from rec.config import Ranker
from rec.rerank.adaptor import Adaptor, HybridExperts, Perceptrons
from rec.rerank.attention import attend
from rec.rerank.features import Batch, Knowledge

ITEMS, USERS = 0, 1  # sources of the adaptor: items' texts, and the first of the users' texts


@dataclass(frozen=True)
class Shape:
    """Sizes that the data gives to a re-ranker."""

    items: int
    categories: int
    dimension: int = 0  # of text vectors; 0: no knowledge
    texts: int = 0  # about a user: none, the response, or the response and the history


class Inputs(nn.Module):
    """The items of lists as vectors [B, n, hidden], and the history as vectors [B, H, hidden].

    With e = 2 * embedding and h = hidden there are (items + 1 + categories) * embedding parameters
    of embeddings and 6h(e + 1) + 2h² + 6h of items and the history attention, or 3h(e + 1) + 2h of
    items and interactions where the model reads the history itself. With knowledge of width k and S
    texts about a user come the adaptor's, kh(1 + 2S) of texts and products, and Sh of similarities.
    """

    def __init__(self, shape: Shape, config: Ranker, attends: bool = True) -> None:
        super().__init__()
        self.shape, self.config, self.attends = shape, config, attends
        hidden, item = config.hidden, 2 * config.embedding
        self.item = nn.Embedding(shape.items + 1, config.embedding, padding_idx=0)
        nn.init.normal_(self.item.weight, std=0.1)
        self.category = nn.Linear(shape.categories, config.embedding, bias=False)
        self.candidate = nn.Linear(item, hidden)
        if attends:
            self.attention = HistoryAttention(item, hidden, config.heads)
        else:
            self.past = nn.Linear(item, 2 * hidden)
            self.rating = nn.Linear(1, hidden)
        if shape.dimension:
            self.adaptor = _adaptor(shape, config)
            self.item_text = nn.Linear(config.knowledge, hidden, bias=False)
            width = config.knowledge
            texts = range(shape.texts)
            self.user_text = nn.ModuleList(nn.Linear(width, hidden, bias=False) for _ in texts)
            self.match = nn.ModuleList(nn.Linear(width, hidden, bias=False) for _ in texts)
        if shape.texts and config.similarity:
            self.similarity = nn.Linear(shape.texts, hidden, bias=False)
        self._start_as_one()

    @torch.no_grad()
    def _start_as_one(self) -> None:
        """Scale the first weights of what is added up to those of one layer over all of it.

        Each layer's own start would make the sum grow with every kind of knowledge.
        """
        added = [self.candidate]
        if self.attends:
            added += [self.attention.output, self.attention.match]
        if self.shape.dimension:
            added += [self.item_text, *self.user_text, *self.match]
        if self.shape.texts and self.config.similarity:
            added.append(self.similarity)
        total = sum(layer.in_features for layer in added)
        for layer in added:
            layer.weight.mul_(math.sqrt(layer.in_features / total))

    def prepared(self, knowledge: Knowledge | None) -> Knowledge | None:
        """Text vectors as `forward` takes them, centred on the means that the adaptor holds."""
        if knowledge is None:
            return None
        items = self.adaptor.centred(knowledge.items, ITEMS)
        items[0] = 0
        if knowledge.users is None:
            return replace(knowledge, items=items)
        texts = enumerate(knowledge.users.unbind(1))
        users = [self.adaptor.centred(vectors, USERS + text) for text, vectors in texts]
        return replace(knowledge, items=items, users=torch.stack(users, dim=1))

    def forward(self, batch: Batch) -> Tensor:
        """Vectors [B, n, hidden] of the items; what stands at padding means nothing."""
        distinct, place = _distinct(batch.items)
        items = self._embedded(distinct, batch.categories)
        known = self.candidate(items)
        if self.shape.dimension:
            assert batch.item_vectors is not None
            vectors = _computed(functional.embedding(distinct, batch.item_vectors))
            texts = self.adaptor(vectors, ITEMS)
            known = known + self.item_text(texts)
        gathered = functional.embedding(place, known)
        if self.attends:
            query = functional.embedding(place, self.attention.query(items))
            gathered = gathered + self._attended(query, batch)
        if self.shape.texts:
            gathered = gathered + self._told(texts, vectors, place, batch)
        return gathered

    def history(self, batch: Batch) -> Tensor:
        """Vectors [B, H, hidden] of the interactions; of a re-ranker that reads them itself."""
        distinct, place = _distinct(batch.history)
        projected = self.past(self._embedded(distinct, batch.categories))
        plain, rated = functional.embedding(place, projected).chunk(2, dim=-1)
        rating = batch.ratings.unsqueeze(-1)
        states: Tensor = plain + rating * rated + self.rating(rating)
        return states

    def _embedded(self, items: Tensor, categories: Tensor) -> Tensor:
        multi_hot = functional.embedding(items, categories)
        return torch.cat([self.item(items), self.category(multi_hot)], dim=-1)

    def _attended(self, query: Tensor, batch: Batch) -> Tensor:
        distinct, place = _distinct(batch.history)
        items = self._embedded(distinct, batch.categories)
        attended: Tensor = self.attention(query, items, place, batch.ratings, batch.history > 0)
        return attended

    def _told(self, texts: Tensor, vectors: Tensor, place: Tensor, batch: Batch) -> Tensor:
        """What the user's texts add to each item, [B, n, hidden].

        `texts` are the adapted texts of the distinct items, `vectors` the same before the adaptor.
        """
        assert batch.user_vectors is not None
        items = functional.embedding(place, texts)
        parts = []
        for text, vector in enumerate(_computed(batch.user_vectors).unbind(1)):
            adapted = self._adapted(vector, USERS + text)
            matched = self.match[text](items * adapted.unsqueeze(1))
            parts.append(matched + self.user_text[text](adapted).unsqueeze(1))
        if self.config.similarity:
            parts.append(self.similarity(_cosines(vectors, place, batch.user_vectors)))
        told: Tensor = sum(parts[1:], parts[0])
        return told

    def _adapted(self, vectors: Tensor, source: int) -> Tensor:
        """Adapted texts of users [B, d] to [B, width]; 0 where training hides a user."""
        if not self.training:
            adapted: Tensor = self.adaptor(vectors, source)
            return adapted
        drawn = torch.rand(len(vectors), device=vectors.device)
        if vectors.is_cuda:
            every: Tensor = self.adaptor(half_hidden(vectors), source)
            return every * (drawn >= HIDDEN_USERS).unsqueeze(1)
        seen = (drawn >= HIDDEN_USERS).nonzero().squeeze(1)
        adapted = self.adaptor(half_hidden(vectors[_filled(seen)]), source)[: len(seen)]
        hidden = adapted.new_zeros(len(vectors), adapted.shape[1])
        return hidden.index_copy(0, seen, adapted)


#: Rows of products come in multiples of this: for every new size oneDNN writes code, which takes as
#: long as the product, and the number of distinct items differs from batch to batch.
ROWS = 64


def _filled(rows: Tensor) -> Tensor:
    """Row numbers [R], with zeros behind them up to a multiple of `ROWS`."""
    return functional.pad(rows, (0, -len(rows) % ROWS))


def _distinct(items: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct items, filled up, and where each of `items` stands among them.

    On a GPU all items, as they stand: to count the distinct ones would wait for the device, which
    has products of a few thousand rows to spare.
    """
    if items.is_cuda:
        return items.flatten(), torch.arange(items.numel(), device=items.device).view_as(items)
    distinct, place = torch.unique(items, return_inverse=True)
    return _filled(distinct), place


def _computed(vectors: Tensor) -> Tensor:
    """Vectors in the type that products are computed in."""
    low = torch.is_autocast_enabled(vectors.device.type)
    return vectors.to(torch.bfloat16 if low else torch.float32)


@torch.no_grad()
def _cosines(items: Tensor, place: Tensor, users: Tensor) -> Tensor:
    """Cosines of items' and users' texts, centred vectors [D, d] and [B, S, d]: [B, n, S].

    They are multiplied by the root of d, which gives those of random vectors a spread of 1. They
    are computed in the type of the items' vectors.
    """
    with torch.autocast(items.device.type, enabled=False):
        gathered = functional.embedding(place, items).transpose(1, 2)
        products = (users.to(items.dtype) @ gathered).transpose(1, 2)
    return products.float() / math.sqrt(items.shape[-1])


#: Share of whole user vectors that training hides, beside half of the entries of each. Users are
#: few, and a vector per user is learned by heart: without this, texts that help turn into a loss.
HIDDEN_USERS = 0.5


def half_hidden(vectors: Tensor) -> Tensor:
    """Vectors [B, d] with each entry either doubled or 0, by the flip of a coin.

    It is dropout of 0.5 that draws eight coins at once: on a CPU drawing is most of its cost.
    """
    rows, width = vectors.shape
    drawn = torch.randint(256, (rows, -(-width // 8), 1), dtype=torch.uint8, device=vectors.device)
    bits = (drawn >> torch.arange(8, dtype=torch.uint8, device=vectors.device)) & 1
    return vectors * (bits.flatten(1)[:, :width] * 2).to(vectors.dtype)


def _adaptor(shape: Shape, config: Ranker) -> Adaptor:
    sources = 1 + shape.texts
    if config.adaptor == "mlp":
        return Perceptrons(
            shape.dimension,
            config.knowledge,
            config.adaptor_hidden,
            sources,
            config.dropout,
        )
    return HybridExperts(
        shape.dimension,
        config.knowledge,
        config.adaptor_hidden,
        config.experts_shared,
        config.experts_specific,
        sources,
        config.dropout,
    )


class HistoryAttention(nn.Module):
    """Each candidate attends to the user's last interactions (target attention).

    An interaction is its item and its rating in -1 to 1, which also scales a second view of the
    item, so that a liked and a disliked item can pull in opposite directions. One learned slot
    stands beside the history: an empty history is attended as that slot alone.
    """

    def __init__(self, item: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(item, hidden)
        self.keys = nn.Linear(item, 4 * hidden)
        self.rating = nn.Parameter(torch.zeros(2 * hidden))
        self.empty = nn.Parameter(torch.zeros(4 * hidden))
        self.output = nn.Linear(hidden, hidden, bias=False)
        self.match = nn.Linear(hidden, hidden, bias=False)

    def forward(
        self, query: Tensor, items: Tensor, place: Tensor, ratings: Tensor, mask: Tensor
    ) -> Tensor:
        """What the history adds to candidates of these queries: [B, n, hidden] to the same shape.

        `items` are the distinct items of the histories [D, item], `place` [B, H] says which stands
        where, `ratings` and `mask` are [B, H]. It is a map of what was attended to, and one of its
        product with the query.
        """
        bias = self.keys.bias + functional.pad(self.rating, (len(self.rating), 0))
        table = functional.linear(items, self.keys.weight, bias)
        table = torch.cat([table, self.empty.to(table.dtype).unsqueeze(0)])
        place = functional.pad(place, (1, 0), value=len(items))
        mask = functional.pad(mask, (1, 0), value=True)
        plain, rated = functional.embedding(place, table).chunk(2, dim=-1)
        rating = functional.pad(ratings, (1, 0)).unsqueeze(-1).to(table.dtype)
        keys, values = torch.addcmul(plain, rating, rated).chunk(2, dim=-1)
        attended = attend(query, keys, values, mask, self.heads)
        result: Tensor = self.output(attended) + self.match(attended * query)
        return result
