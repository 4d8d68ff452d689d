"""The texts of an audit: what the model answers to them, how methods score them, and the figures of each method."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from textattn.data.evidence import marked_tokens
from textattn.explain.audit_measures import (
    Interval,
    SignCounts,
    auprc,
    bootstrap,
    bootstrap_ratio,
    check_signs,
    f1,
    iou_precision_recall,
    kendall_tau,
    num_erased,
    order_by,
    token_f1,
    top_overlap,
)
from textattn.explain.audit_results import (
    AttentionResult,
    EvidenceAgreement,
    EvidenceFacts,
    MethodResult,
    NoiseFacts,
    Signs,
)
from textattn.explain.best_order import best_orders, search_cost
from textattn.explain.erasure import answers_of, pack, rows_of
from textattn.explain.erasure_curves import VARIANTS, Erased, Order, areas_under_curves, erase_in_order
from textattn.explain.forward_pass import ForwardPass
from textattn.explain.methods import find_method
from textattn.explain.methods._base import Method, Need
from textattn.explain.support import Support
from textattn.explain.targets import Targets
from textattn.inference.classifier import Classifier
from textattn.inference.session import Floats
from textattn.tokens.token_arrays import TokenArrays

if TYPE_CHECKING:
    from textattn.data.read import Split

Scores = list[NDArray[np.float64]]
# Most whole texts with which erased ones are compared, and the part of `slow_tokens` that may be spent on them.
KNOWN_TEXTS = 500
SHARE_FOR_KNOWN_TEXTS = 8


class AuditedTexts:
    """The texts of an audit and what the model answers to them."""

    def __init__(
        self, classifier: Classifier, split: Split, seed: int, slow_tokens: int, more: Split | None = None
    ) -> None:
        """Runs the model on the texts.

        Args:
            split: the texts.
            seed: of random rankings and resamples.
            slow_tokens: how many tokens each slow method may run through the model.
            more: other texts of the same kind; together with the texts they show what whole texts are like.
        """
        from textattn.model.attention import WeightedPooling

        self.classifier = classifier
        self.seed = seed
        self.slow_tokens = slow_tokens
        self.split = split
        self.evidence: list[NDArray[np.bool_] | None] = [None] * len(split)
        self.unread: list[float] = []
        self.tokens = classifier.tokenizer.encode(split) if split.evidence is None else self._read_evidence()
        self.forward = ForwardPass.run(classifier, self.tokens)
        self.probs = classifier.logits_to_probabilities(self.forward.logits)
        self.answers = classifier.task.top(self.probs)
        self.has_weights = isinstance(classifier.torch_session.model.attention, WeightedPooling)
        self.support = Support(np.concatenate([self.forward.context, *self._contexts(more)]))
        self._parts: dict[int, ForwardPass] = {}

    def __len__(self) -> int:
        return len(self.forward)

    def _contexts(self, more: Split | None) -> list[Floats]:
        count = KNOWN_TEXTS - len(self)
        if more is None or count <= 0:
            return []
        tokens = rows_of(self.classifier.tokenizer.encode(more.take(np.arange(min(count, len(more))))))
        spent = np.cumsum([len(ids) for ids in tokens])
        return [
            answers_of(self.classifier, tokens[: int((spent <= self.slow_tokens // SHARE_FOR_KNOWN_TEXTS).sum())])[1]
        ]

    def allow(self, method: Method) -> bool:
        """Whether the model has the network, the attention weights, or the exact parts of its answers, that the method
        needs."""
        if not method.has_network_for(self.classifier):
            return False
        if Need.ADDITIVE in method.needs and self.classifier.dividing_session is None:
            return False
        return self.has_weights or Need.ATTENTION_WEIGHTS not in method.needs

    def _read_evidence(self) -> TokenArrays:
        """Finds the marked tokens; returns the tokens of all texts."""
        assert self.split.evidence is not None
        texts = list(self.split)
        tokenized = self.classifier.tokenizer.encode_with_offsets(texts)
        for number, (text, row) in enumerate(zip(texts, tokenized, strict=True)):
            spans = self.split.evidence[number]
            if spans is None:
                continue
            self.evidence[number] = marked_tokens(spans, row.offsets)
            read = [marked_tokens(spans[i : i + 1], row.offsets).any() for i in range(len(spans))]
            self.unread.append(1 - float(np.mean(read)) if text else 0.0)
        return pack([np.array(row.input_ids, np.int32) for row in tokenized])

    def forward_for(self, method: Method) -> ForwardPass:
        """The first texts, as many as the method has time for. Methods with as many share what they run."""
        cost = method.cost(self.tokens.lengths)
        if cost is None:
            return self.forward
        count = max(int((np.cumsum(cost) <= self.slow_tokens).sum()), 1)
        return self._parts.setdefault(count, self.forward.first(count))

    def random_scores(self) -> Scores:
        """A ranking by chance."""
        generator = np.random.default_rng([self.seed, 1])
        return [generator.random(length) for length in self.tokens.lengths]

    def scores(self, method: Method, advance: Callable[[int], None] | None = None) -> Scores:
        """(tokens,) scores for the answer to each text that the method has time for."""
        method.check_model(self.classifier)
        forward = self.forward_for(method)
        targets = Targets(self.answers[: len(forward)], self.classifier.task)
        return method.attribute(forward, targets, seed=self.seed, on_row=advance).scores

    def erase(self, scores: Scores) -> Erased:
        """Erases the tokens with the highest scores."""
        count = len(scores)
        orders = self._orders(scores)
        return erase_in_order(self.classifier, self.forward.ids[:count], orders, self.probs[:count], self.support)

    def _orders(self, scores: Scores) -> list[Order]:
        generator = np.random.default_rng([self.seed, 2])
        return [order_by(row, generator) for row in scores]

    @property
    def num_searched(self) -> int:
        """The first texts, as many as there is time for to search for the best order: none if they are very long."""
        return int((np.cumsum(search_cost(self.tokens.lengths)) <= self.slow_tokens).sum())

    def shares_of_best(
        self, scores: dict[str, Scores], on_row: Callable[[int], None] | None = None
    ) -> dict[str, Interval | None]:
        """Where each method stands between chance (0) and the best order known (1), by the area under its curve.

        The best order of a text is that of a greedy search, or that of a method where it is better.

        Args:
            scores: by method, `random` among them.

        Returns:
            By method; empty if there is no time for the search in any text.
        """
        searched = self.num_searched
        if searched == 0:
            return {}
        orders = {name: self._orders(rows[:searched]) for name, rows in scores.items()}
        orders["best"] = best_orders(self.classifier, self.forward.ids[:searched], self.answers[:searched], on_row)
        areas = {
            name: areas_under_curves(self.classifier, self.forward.ids[: len(rows)], rows, self.probs[: len(rows)])
            for name, rows in orders.items()
        }
        chance, best = areas["random"], areas.pop("best")
        for found in areas.values():
            best[: len(found)] = np.minimum(best[: len(found)], found)
        return {
            name: bootstrap_ratio(chance[: len(found)] - found, (chance - best)[: len(found)], self.seed)
            for name, found in areas.items()
        }

    def without_each_token(self) -> list[NDArray[np.float64]]:
        """The answers without each token, (tokens, labels), of as many texts as leave-one-out has time for."""
        without = self.forward_for(find_method("occlusion")).without_each_word()
        return [self.classifier.logits_to_probabilities(logits) for logits in without]

    def noise(self) -> tuple[NoiseFacts, dict[str, Interval | None]]:
        """What noise in the embeddings does to the answers, and by method to the top of the explanations."""
        from textattn.explain.noise import DRAWS, RELATIVE_SIZE, run_with_noise

        targets = Targets(self.answers, self.classifier.task)
        directions = targets.directions()
        noisy = run_with_noise(self.classifier, self.tokens, directions, self.seed)
        whole, *moved = noisy.probs
        distances = np.mean([self.classifier.task.distance(probs, whole) for probs in moved], axis=0)
        generator = np.random.default_rng([self.seed, 4])
        overlaps = {}
        for name, (clean, *others) in noisy.scores.items():
            found = [
                np.mean([top_overlap(order_by(row, generator), order_by(other[i], generator)) for other in others])
                for i, row in enumerate(clean)
            ]
            overlaps[name] = bootstrap([float(value) for value in found], self.seed)
        return NoiseFacts(RELATIVE_SIZE, DRAWS, bootstrap(distances, self.seed)), overlaps

    def _falls(self) -> list[NDArray[np.float64]]:
        """How far the probability of the answer falls without each token, (tokens,), of the same texts."""
        strength = self.classifier.task.strength
        rows = zip(self.without_each_token(), self.answers, strength(self.probs, self.answers), strict=False)
        return [whole - strength(without, np.full(len(without), answer)) for without, answer, whole in rows]

    def signs(self, scores: Scores) -> Signs:
        """Whether the signs of a method are right, on the texts that it and leave-one-out have in common."""
        return self._signs([check_signs(row, falls) for row, falls in zip(scores, self._falls(), strict=False)])

    def signs_of_chance(self) -> Signs:
        """How often tokens drawn at random, all with a plus or all with a minus, would have the right sign."""
        falls = self._falls()
        return self._signs(
            [SignCounts(len(row), int((row > 0).sum()), len(row), int((row < 0).sum())) for row in falls]
        )

    def _signs(self, counts: list[SignCounts]) -> Signs:
        supporting, supporting_right, opposing, opposing_right = np.array(counts).T
        return Signs(
            len(counts),
            bootstrap_ratio(supporting_right, supporting, self.seed),
            bootstrap_ratio(opposing_right, opposing, self.seed),
        )

    def result(
        self,
        scores: Scores,
        erased: Erased,
        chance: Erased,
        *,
        signs: Signs | None,
        share_of_best: Interval | None,
        noise_overlap: Interval | None,
    ) -> MethodResult:
        """The figures of a method; `chance` is what the erasure of random tokens did."""
        count = len(scores)
        return MethodResult(
            num_examples=count,
            comprehensiveness={v: bootstrap(erased.comprehensiveness[v], self.seed) for v in VARIANTS},
            comprehensiveness_over_random=bootstrap(
                erased.comprehensiveness["deletion"] - chance.comprehensiveness["deletion"][:count], self.seed
            ),
            sufficiency={v: bootstrap(erased.sufficiency[v], self.seed) for v in VARIANTS},
            top_token_flips=float(erased.top_token_flips.mean()),
            erased_until_flip=float(erased.erased_until_flip.mean()),
            signs=signs,
            outliers={v: bootstrap(erased.outliers[v], self.seed) for v in VARIANTS},
            share_of_best=share_of_best,
            noise_overlap=noise_overlap,
            evidence=self._agreement_with_evidence(scores),
        )

    def _agreement_with_evidence(self, scores: Scores) -> EvidenceAgreement | None:
        """ERASER's plausibility: in each text as many tokens are chosen as have evidence on average."""
        rows = [row for row in range(len(scores)) if self.evidence[row] is not None]
        if not rows:
            return None
        known = [mask for mask in self.evidence if mask is not None]
        share = float(np.mean([mask.mean() for mask in known]))
        generator = np.random.default_rng([self.seed, 3])
        areas, token_f1s, precisions, recalls = [], [], [], []
        for row in rows:
            mask = self.evidence[row]
            assert mask is not None
            chosen = np.zeros(len(mask), np.bool_)
            chosen[order_by(scores[row], generator)[: num_erased(share, len(mask))]] = True
            areas.append(auprc(scores[row], mask))
            token_f1s.append(token_f1(chosen, mask))
            precision, recall = iou_precision_recall(chosen, mask)
            precisions.append(precision)
            recalls.append(recall)
        return EvidenceAgreement(
            auprc=bootstrap(areas, self.seed),
            token_f1=bootstrap(token_f1s, self.seed),
            iou_f1=f1(float(np.mean(precisions)), float(np.mean(recalls))),
        )

    def facts_of_evidence(self) -> EvidenceFacts:
        """What people marked."""
        known = [mask for mask in self.evidence if mask is not None]
        return EvidenceFacts(
            num_examples=len(known),
            share_of_tokens=float(np.mean([mask.mean() for mask in known])) if known else None,
            share_not_read=float(np.mean(self.unread)) if self.unread else None,
        )

    def attention(self, scores: dict[str, Scores]) -> AttentionResult | None:
        """What holds for attention alone; None where the model has no weights of its own.

        Args:
            scores: by method; gradients are computed where they are not among them.
        """
        if not self.has_weights:
            return None
        from textattn.explain.attention_checks import check_attention

        distance = self.classifier.task.distance

        def tau(first: Scores, second: Scores) -> Interval | None:
            return bootstrap([kendall_tau(a, b) for a, b in zip(first, second, strict=False)], self.seed)

        weights = scores["attention"]
        gradients = scores.get("gradient_x_input") or self.scores(find_method("gradient_x_input"))
        steepness = [np.abs(gradient) for gradient in gradients]
        changes = [
            distance(without, probs) for without, probs in zip(self.without_each_token(), self.probs, strict=False)
        ]
        checks = check_attention(self.classifier, self.tokens, self.probs, self.seed)
        uniform_answers = self.classifier.task.top(checks.uniform)
        labels, is_single = self.split.labels, self.split.labels.ndim == 1 and not self.split.is_numeric
        return AttentionResult(
            tau_gradient=tau(weights, steepness),
            tau_leave_one_out=tau(weights, changes),
            tau_gradient_leave_one_out=tau(steepness, changes),
            conicity=bootstrap(checks.conicity, self.seed),
            permuted_total_variation=bootstrap(checks.permuted, self.seed),
            uniform_total_variation=bootstrap(distance(checks.uniform, self.probs), self.seed),
            uniform_decisions_changed=float((uniform_answers != self.answers).mean()),
            top_weight_flips=float(checks.top_weight_flips.mean()),
            random_weight_flips=float(checks.random_weight_flips.mean()),
            weights_erased_until_flip=float(checks.erased_until_flip.mean()),
            random_weights_erased_until_flip=float(checks.random_erased_until_flip.mean()),
            accuracy=float((self.answers == labels).mean()) if is_single else None,
            uniform_accuracy=float((uniform_answers == labels).mean()) if is_single else None,
        )
