"""Every setting of a run: its name, type, range, default and meaning. Defaults are defined nowhere else.

The docstring under a field is its help text, which `textattn schema` puts into the JSON Schema for editors. The
sections `data`, `tokenizer` and `model` have files of their own.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

from textattn.config.data_section import DataConfig
from textattn.config.model_section import ModelConfig, TokenizerConfig
from textattn.config.section import (
    LARGEST,
    Count,
    FileName,
    Fraction,
    Name,
    NonNegative,
    PositiveFloat,
    PositiveInt,
    Section,
)

Recipe = Literal["auto", "documents", "long", "short", "characters", "formulas", "plain"]


class TrainingConfig(Section):
    """The optimisation."""

    epochs: Annotated[StrictInt, Field(gt=0, le=10**6)] = 4
    """Passes over the training split."""
    max_steps: PositiveInt | None = None
    """Stop after this many batches, with a final evaluation, unless the epochs end earlier. null: no limit."""
    batch_size: PositiveInt = 64
    """Texts in a batch, summed over all processes."""
    max_tokens_per_batch: PositiveInt | None = None
    """Largest number of tokens in a batch, including padding: batches of long texts then hold fewer texts. null: no
    limit."""
    learning_rate: PositiveFloat = 2e-3
    """Highest learning rate of AdamW."""
    ngram_learning_rate: PositiveFloat = 0.3
    """Highest learning rate of the n-gram weights, which are trained with Adagrad."""
    schedule: Literal["one_cycle", "linear", "constant"] = "one_cycle"
    """Learning rate after the warm-up: one_cycle lowers it along a cosine, linear along a line, constant keeps it."""
    warmup_ratio: Fraction = 0.2
    """Share of all steps during which the learning rate rises."""
    weight_decay: Annotated[StrictFloat, Field(ge=0, allow_inf_nan=False)] = 0.01
    """Decoupled weight decay of AdamW. It does not apply to biases and embeddings."""
    max_grad_norm: PositiveFloat | None = 1.0
    """Scale down gradients whose norm exceeds this value. null: never."""
    label_smoothing: Fraction = 0.0
    """Share of the target that is spread over the other labels."""
    class_weights: Literal["balanced"] | dict[Name, PositiveFloat] | None = None
    """`balanced`: give rare labels a larger weight in the loss. Or a weight for each label name."""
    sampling: Literal["shuffled", "balanced"] = "shuffled"
    """`balanced`: draw every label equally often in an epoch, so that texts with rare labels are repeated."""
    attention_alignment: NonNegative = 0.0
    """Weight of a loss that draws the attention to the words whose values speak for the true label."""
    attention_supervision: NonNegative = 0.0
    """Weight of a loss that draws the attention to the words that people marked in `data.evidence`."""
    state_tying: NonNegative = 0.0
    """Weight of a loss: the squared distance between the encoder's states and the embeddings of their words (Tutek &
    Šnajder 2020). It requires that hidden_size equals embedding_dim."""
    calibration: Literal["temperature", "none"] = "temperature"
    """`temperature`: after training, fit one number on the validation split so that the probabilities match how often
    the predictions are correct (Guo et al. 2017). The predicted labels stay the same, but grades may move."""
    metric: (
        Literal[
            "accuracy",
            "balanced_accuracy",
            "macro_f1",
            "micro_f1",
            "auroc",
            "log_loss",
            "quadratic_kappa",
            "mae",
            "rmse",
            "r2",
            "spearman",
        ]
        | None
    ) = None
    """Validation metric that selects the best checkpoint. `quadratic_kappa` is for grades, `mae` for grades and
    numbers, `rmse`, `r2` and `spearman` are for numbers, the others for labels and grades. null: accuracy, micro_f1 for
    multi-label, quadratic_kappa for grades, mae for numbers."""
    cross_validation: Annotated[StrictInt, Field(ge=2, le=LARGEST)] | None = None
    """Number of folds, for small data sets. No validation split is set aside then. Each fold is predicted by a model
    trained on the other folds. The final model is trained on all texts and stops after the epoch in which the
    predictions of the folds were best. Their metrics are in metrics.json, and they calibrate the model. null: no
    cross-validation."""
    patience: PositiveInt | None = None
    """Stop after this many evaluations without improvement. null: run all epochs."""
    evaluations_per_epoch: PositiveInt = 1
    """Number of evaluations on the validation split in each epoch."""
    checkpoint_steps: PositiveInt | None = 500
    """Save what `--resume` needs after this many batches, in addition to after each evaluation. null: only after each
    evaluation."""
    baseline: StrictBool = False
    """Also train a linear model (TF-IDF, logistic regression) on the same splits and report whether the network is
    better."""
    threads: PositiveInt | None = None
    """Number of threads that compute on a processor. The trained model does not depend on it. null: one thread for each
    processor that this process may use, or as many as OMP_NUM_THREADS says."""
    device: Annotated[StrictStr, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 on processors with instructions for it, else fp32, which is faster on GPUs for models of this size.
    fp16 needs CUDA. Evaluation always uses fp32."""

    @model_validator(mode="after")
    def _all_epochs_of_a_fold(self) -> TrainingConfig:
        for key in ("max_steps", "patience"):
            if self.cross_validation is not None and getattr(self, key) is not None:
                raise ValueError(
                    f"training.{key} cannot be combined with training.cross_validation, which decides when to stop"
                )
        return self


class OutputConfig(Section):
    """What a run writes into its directory."""

    dir: FileName | None = None
    """Run directory. null: runs/<config>/<time>."""
    prediction_splits: list[Literal["train", "validation", "test"]] = ["test"]
    """Splits whose predictions are written to predictions/<split>.parquet."""
    attention_splits: list[Literal["train", "validation", "test"]] = ["test"]
    """Splits whose attention weights and contributions are written to attention/<split>.parquet, token by token."""
    attention_examples: Count = 1000
    """Largest number of examples whose attention weights are written for each split."""
    audit_examples: Count = 100
    """Number of texts on which the run finally measures how far its explanations can be trusted (`textattn audit`).
    0: no audit."""
    plots: StrictBool = True
    """Draw training, confusion and calibration plots into plots/ and the model card. This takes a second or two."""
    report: StrictBool = True
    """Write the report of the run, report.html (`textattn report`). This takes about a second."""
    tracking: list[Literal["tensorboard", "mlflow", "wandb"]] = []
    """Also report the run to these tools. Each is an extra (`pip install 'textattn[mlflow]'`) and reads its usual
    environment variables, such as MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME, WANDB_PROJECT and WANDB_MODE."""


# Settings that are about labels, with the value that turns each off.
WITHOUT_LABELS = (
    ("data", "label_names", None),
    ("data", "label_separator", None),
    ("data", "teacher", None),
    ("model", "output", None),
    ("training", "label_smoothing", 0.0),
    ("training", "class_weights", None),
    ("training", "sampling", "shuffled"),
)


class StartConfig(Section):
    """The finished model that a run goes on from, instead of starting with random weights."""

    model: FileName | None = None
    """Run directory, bundle with weights or `hf://user/name`: the new run starts with its weights, labels, vocabulary
    and architecture. New labels and frequent new words are added. null: start anew."""
    replay: Annotated[StrictFloat, Field(ge=0, le=1)] = 1.0
    """Share of the rows that the model was trained on to train on again, so that it does not forget them. They are left
    out if their files cannot be read any more, or have changed."""


class Config(Section):
    """The settings of a textattn run."""

    seed: Annotated[StrictInt, Field(ge=0, lt=2**32)] = 42
    """Seed of all random numbers."""
    recipe: Recipe = "auto"
    """Source of the values of settings that are not given. `short`, `long` and `documents` (texts made of words),
    `characters` (scripts without spaces) and `formulas` (chemical formulas): the values that worked best for such
    texts. `auto`: choose one of these by the training texts. `plain`: the defaults of this schema. The
    training_config.yaml of a finished run contains every setting."""
    task: Literal["classification", "ordinal", "regression"] = "classification"
    """`classification`: labels without an order, one or several for each text. `ordinal`: grades, such as stars, from
    labels that are numbers or that `data.label_names` puts in order. `regression`: a number, such as a price, in the
    column `data.label`."""
    data: DataConfig
    """The texts and their labels."""
    start: StartConfig = StartConfig()
    """The model to go on from, if there is one (`--from` on the command line)."""
    tokenizer: TokenizerConfig = TokenizerConfig()
    """How texts are split into tokens."""
    model: ModelConfig = ModelConfig()
    """The network that turns tokens into logits."""
    training: TrainingConfig = TrainingConfig()
    """How the model is optimised, selected and calibrated."""
    output: OutputConfig = OutputConfig()
    """The files that a run writes."""

    @model_validator(mode="before")
    @classmethod
    def _folds_need_no_validation_split(cls, values: Any) -> Any:
        """What was not given; whether the rest is valid is checked later."""
        data, training = (values.get(key) if isinstance(values, dict) else None for key in ("data", "training"))
        if isinstance(data, dict) and isinstance(training, dict) and training.get("cross_validation") is not None:
            return {**values, "data": {"validation_fraction": 0.0, **data}}
        return values

    @model_validator(mode="after")
    def _numbers_have_no_labels(self) -> Config:
        if self.task == "regression":
            for section, key, value in WITHOUT_LABELS:
                if getattr(getattr(self, section), key) != value:
                    raise ValueError(f"{section}.{key} is for labels and does not go with task: regression")
            if not isinstance(self.data.label, str):
                raise ValueError("data.label must name one column with task: regression")
        return self
