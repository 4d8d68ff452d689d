"""What every explanation method is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from textattn.errors import ConfigError, Option
from textattn.storage.run_dir import WEIGHTS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from textattn.explain.forward_pass import ForwardPass
    from textattn.explain.targets import Targets
    from textattn.inference.classifier import Classifier

# A forward and backward pass over a token in PyTorch takes about this many times as long as a forward pass in ONNX
# Runtime.
BACKWARD_COST = 6


class Need(Enum):
    """What a method may need that not every model has."""

    NETWORK = auto()
    """A network, with attention, unlike a linear model alone (`model.linear: only`)."""
    TORCH = auto()
    """PyTorch and model.safetensors, for gradients."""
    ATTENTION_WEIGHTS = auto()
    """Attention that weighs tokens, unlike `max` and `last`; comes with TORCH."""
    NGRAMS = auto()
    """N-grams (`model.ngrams`)."""
    ADDITIVE = auto()
    """Logits that can be divided among the tokens, unlike those of attention `mlp`."""


class Attributions(NamedTuple):
    """Scores of the tokens of some texts."""

    scores: list[NDArray[np.float64]]
    """(tokens,) for each text; the score of a word is the sum over its tokens."""
    completeness_error: NDArray[np.float64] | None = None
    """(rows,) for methods whose scores should sum to a known change of the log-odds: how far the sum is from that
    change, as a share of it."""

    @classmethod
    def of_words(cls, scores: Sequence[NDArray[np.float64]], words: Sequence[NDArray[np.int64]]) -> Attributions:
        """Gives each token of a word an equal part of the word's score.

        Args:
            scores: (words,) for each text.
            words: (tokens,) for each text, the word of each token, numbered from 0.
        """
        import numpy as np

        shares = zip(scores, words, strict=True)
        return cls([np.asarray((score / np.bincount(word_of))[word_of]) for score, word_of in shares])


class Method:
    """An explanation method: gives every token of a text a score for the answer to it.

    Scores are with respect to the log-odds of `textattn.explain.targets`, in nats, unless the method says otherwise.
    """

    says: ClassVar[str]
    """What a score is, in a few words for the HTML page."""
    signed: ClassVar[bool] = True
    """Whether scores are for the target (positive) or against it (negative). Otherwise they are shares that sum to 1
    and are the same for every label."""
    needs: ClassVar[frozenset[Need]] = frozenset()
    place: ClassVar[int] = 100
    """Methods are listed in ascending order of this number, and equal ones by name."""
    in_default_audit: ClassVar[bool] = True
    """Whether `textattn audit` measures it where no methods are named. False for methods that take minutes, and for
    those that not every model has."""

    @property
    def name(self) -> str:
        """The name of its file."""
        return type(self).__module__.rpartition(".")[2]

    def has_network_for(self, classifier: Classifier) -> bool:
        """Whether the model has the network that the method needs, if it needs one."""
        return classifier.config.has_network or Need.NETWORK not in self.needs

    def check_model(self, classifier: Classifier) -> None:
        """Checks that the model has what the method needs.

        Raises:
            ConfigError: it has no network, no attention weights, or no n-grams.
            InputError: it has no model.safetensors.
        """
        if not self.needs:
            return
        if not self.has_network_for(classifier):
            raise ConfigError(
                f"{self.name}: this model is a linear model alone (model.linear: only), without attention",
                Option("method", "contributions"),
            )
        if Need.ADDITIVE in self.needs and classifier.dividing_session is None:
            has_weights = classifier.files.has(WEIGHTS)
            reason = (
                f"the answers of a model with attention {classifier.config.architecture['attention']} cannot be "
                "divided among words"
                if has_weights or classifier.runtime == "torch"
                else f"{classifier.path} comes from an earlier version and has no {WEIGHTS}"
            )
            raise ConfigError(
                f"{self.name}: {reason}", Option("method", "gradient_x_input" if has_weights else "occlusion")
            )
        if Need.TORCH in self.needs:
            model = classifier.torch_session.model
            if Need.ATTENTION_WEIGHTS in self.needs:
                from textattn.explain.gradients import weighted_pooling

                weighted_pooling(model, self.name)
        if Need.NGRAMS in self.needs and not classifier.config.architecture.get("ngrams"):
            raise ConfigError(
                f"{self.name}: this model has no linear part (model.ngrams)", Option("method", "gradient_x_input")
            )

    def cost(self, lengths: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """How many tokens the method runs through the model for each text, as tokens of a forward pass.

        The audit measures a slow method on as many texts as its budget of tokens allows.

        Args:
            lengths: (rows,) tokens of each text.

        Returns:
            (rows,); None for a method that is about as fast as an answer, which the audit measures on all texts.
        """
        return None

    def attribute(
        self,
        forward: ForwardPass,
        targets: Targets,
        *,
        seed: int = 0,
        on_row: Callable[[int], None] | None = None,
    ) -> Attributions:
        """Scores the tokens of texts that the model has answered. `check_model` has passed.

        Args:
            forward: the texts, with the logits and attention weights that the model gave for them.
            targets: the label to explain for each text.
            seed: of methods that draw random numbers.
            on_row: called with the number of texts done, by methods that take long.
        """
        raise NotImplementedError
