"""Every setting of a run: its name, type, range, default and meaning. The only place where defaults live.

The docstring under a field is its help text: `textattn schema` puts it into the JSON Schema for editors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

from textattn.config.parts import part_names

Fraction = Annotated[StrictFloat, Field(ge=0, lt=1)]
PositiveInt = Annotated[StrictInt, Field(gt=0)]
NonNegative = Annotated[StrictFloat, Field(ge=0, allow_inf_nan=False)]
PositiveFloat = Annotated[StrictFloat, Field(gt=0, allow_inf_nan=False)]
Name = Annotated[StrictStr, Field(min_length=1)]
Files = Name | list[Name]
Recipe = Literal["auto", "long", "short", "characters", "formulas", "plain"]
ATTENTION = part_names("attention", default="additive")
ENCODERS = (*part_names("encoders", default="lstm"), "none")
if TYPE_CHECKING:
    AttentionName = str
    EncoderName = str
else:
    AttentionName = Literal[ATTENTION]
    EncoderName = Literal[ENCODERS]


class Section(BaseModel):
    """What all sections share: unknown keys are errors, values are fixed once read."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=(), validate_default=True
    )


class DataFiles(Section):
    """Files of each split: a path or a list of paths (globs allowed), in formats such as csv or parquet."""

    train: Files
    """Files of the training split."""
    validation: Files | None = None
    """Files of the validation split; null: a part of train is set aside."""
    test: Files | None = None
    """Files of the test split; null: no test metrics."""


class Unlabelled(Section):
    """Texts without labels, from the labelled data or from elsewhere."""

    path: Files | None = None
    """Files (globs allowed), a folder or a Hub id. null: `data.path`."""
    name: Name | None = None
    """Configuration (subset) of a Hub data set."""
    revision: Name | None = None
    """Branch, tag or commit of a Hub data set."""
    splits: Annotated[list[Name], Field(min_length=1)] | None = None
    """The splits to read. null: all there are in `path`."""
    text: Name | list[Name] | None = None
    """Column that holds the text, or columns. null: as in `data.text`."""

    @model_validator(mode="after")
    def _of_the_data_by_name(self) -> Unlabelled:
        if self.path is None:
            if self.splits is None:
                raise ValueError("give data.unlabelled.path, or data.unlabelled.splits of data.path")
            if extra := [key for key in ("name", "revision", "text") if getattr(self, key) is not None]:
                raise ValueError(f"data.unlabelled.{extra[0]} goes with data.unlabelled.path")
        return self


class DataConfig(Section):
    """Where the texts and labels come from."""

    path: Name | None = None
    """A Hub id (`stanfordnlp/imdb`), a folder, a file such as a csv, or `bundled:reviews`. Or `files`."""
    files: DataFiles | None = None
    """Files by split, instead of `path`."""
    name: Name | None = None
    """Configuration (subset) of a Hub data set."""
    revision: Name | None = None
    """Commit, branch or tag of a Hub data set; the commit that was read is recorded in environment.json."""
    streaming: StrictBool = False
    """Read a Hub data set as it comes over the network, with no copy of its files on this machine. With
    `max_train_examples` no more of the training split is read than those, and a buffer they are drawn from."""
    text: Name | Annotated[list[Name], Field(min_length=1)] = "text"
    """Column that holds the text, or several columns to be joined as segments with a separator token."""
    label: Name = "label"
    """Column that holds the label: a string, an integer, a boolean, or a list of them (multi-label)."""
    label_names: Annotated[list[Name], Field(min_length=2)] | None = None
    """Names of the labels 0, 1, … where the data hold integers without names."""
    evidence: Name | None = None
    """Column with the parts of the text that are the reason for its label: pairs [start, end] of characters, strings,
    or with `evidence_tokens` a 0 or 1 for each token. For `textattn audit` and `training.attention_supervision`."""
    evidence_tokens: Name | None = None
    """Column with the tokens that the 0s and 1s of `evidence` are about."""
    label_separator: Name | None = None
    """In csv and tsv files: splits the label column into several labels (multi-label), for instance `,`."""
    train_split: Name = "train"
    """Split to train on."""
    validation_split: Name | None = "validation"
    """Split to select by; where the data have none, `validation_fraction` of train is set aside."""
    test_split: Name | None = "test"
    """Split to measure on at the end; never used to choose anything. null: none."""
    unlabelled: Unlabelled | None = None
    """Texts without labels, read for the vocabulary and word vectors, and with `teacher` to train on."""
    teacher: Name | None = None
    """A model (run directory, bundle or Hub id) whose answers are the labels of the texts without labels: they are
    trained on like the others."""
    validation_fraction: Annotated[StrictFloat, Field(ge=0, lt=1)] = 0.1
    """Share of train set aside for validation (stratified by label, seeded) where there is no validation split.
    0: none; then the model of the last epoch is kept, and it is not calibrated."""
    validation_rows: Literal["random", "last"] = "random"
    """Which rows are set aside: any, or the last ones of each label. Where rows that belong together follow one another
    (of a film, an author, a day), `last` keeps what is measured from being about the same as what was learnt."""
    max_train_examples: PositiveInt | None = None
    """Train on at most this many examples, drawn at random (seeded). null: all."""
    on_bad_row: Literal["error", "skip"] = "error"
    """A row without text or label, or a ragged one: stop with its file, row and column, or skip it and count it."""
    encoding: Name = "utf-8"
    """Encoding of text files, such as csv and jsonl."""

    @model_validator(mode="before")
    @classmethod
    def _older_keys(cls, values: Any) -> Any:
        """What `unlabelled` was called before: runs of that time have it in their training_config.yaml."""
        if not isinstance(values, Mapping):
            return values
        values = dict(values)
        splits = values.pop("unlabelled_splits", None)
        if isinstance(values.get("files"), Mapping):
            values["files"] = dict(values["files"])
            if files := values["files"].pop("unlabelled", None):
                values["unlabelled"] = {"path": files}
        if splits:
            values["unlabelled"] = {"splits": splits}
        return values

    @model_validator(mode="after")
    def _one_source(self) -> DataConfig:
        if (self.path is None) == (self.files is None):
            raise ValueError("give either data.path or data.files" + (", not both" if self.path else ""))
        if self.teacher is not None and self.unlabelled is None:
            raise ValueError("data.teacher needs texts without labels: data.unlabelled")
        if self.unlabelled is not None and self.unlabelled.path is None and self.files is not None:
            raise ValueError("data.unlabelled.path is needed with data.files")
        if self.streaming and self.path is None:
            raise ValueError("data.streaming goes with data.path")
        texts = [self.text] if isinstance(self.text, str) else self.text
        if self.unlabelled is not None and self.unlabelled.text is not None:
            given = 1 if isinstance(self.unlabelled.text, str) else len(self.unlabelled.text)
            if given != len(texts):
                raise ValueError(f"data.unlabelled.text names {given} columns and data.text {len(texts)}")
        if self.label in texts:
            raise ValueError(f"data.text and data.label are both {self.label!r}")
        if len(set(texts)) < len(texts):
            raise ValueError("data.text names a column twice")
        if self.label_names is not None and len(set(self.label_names)) < len(self.label_names):
            raise ValueError("data.label_names holds a name twice")
        if self.evidence_tokens is not None and self.evidence is None:
            raise ValueError("data.evidence_tokens goes with data.evidence")
        if self.evidence is not None and not isinstance(self.text, str):
            raise ValueError("data.evidence is about one text column, but data.text names several")
        return self


class TokenizerConfig(Section):
    """How a text becomes tokens. Trained on the training split and texts without labels only."""

    type: Literal["word", "wordpiece", "bpe", "unigram", "char", "formula", "composition", "pretrained"] = "word"
    """`char` suits scripts without spaces; `composition` reads chemical formulas as elements and their shares, so that
    Li2O and Li4O2 are the same, `formula` as they are written; `pretrained` reads `path`."""
    path: Name | None = None
    """For `pretrained`: a tokenizer.json, a folder that holds one, or a Hub model id."""
    vocab_size: Annotated[StrictInt, Field(ge=10)] = 30_000
    """Largest number of different tokens, special ones included."""
    min_frequency: PositiveInt = 2
    """A token must occur this often in these texts to enter the vocabulary."""
    lowercase: StrictBool | None = None
    """Fold to lower case. null: yes, except for formulas."""
    nfkc: StrictBool = True
    """Unicode NFKC normalisation (full-width letters, ligatures)."""
    strip_html_breaks: StrictBool = True
    """Read `<br />` as a space."""
    max_length: PositiveInt = 256
    """Longest text in tokens; longer ones are truncated, counted and reported."""
    truncation: Literal["head", "tail", "head_tail"] = "head"
    """Which part of a long text is kept: the beginning, the end, or half of `max_length` from each."""

    @model_validator(mode="after")
    def _path_for_pretrained(self) -> TokenizerConfig:
        if (self.type == "pretrained") != (self.path is not None):
            raise ValueError("tokenizer.path goes with tokenizer.type=pretrained, and only with it")
        return self


class VectorsConfig(Section):
    """Where the word vectors come from at the start of training."""

    source: Literal["random", "file", "skipgram", "periodic_table"] = "random"
    """`file`: word2vec, GloVe or fastText text format; `skipgram`: trained by gensim on the run's own texts;
    `periodic_table`, for tokenizer.type=composition: elements near each other in the table, and amounts near each
    other, begin alike."""
    path: Name | None = None
    """For `file`: the vectors, plain or gzip."""
    epochs: PositiveInt = 5
    """For `skipgram`: passes over the texts."""
    window: PositiveInt = 5
    """For `skipgram`: words to each side."""
    negative: PositiveInt = 5
    """For `skipgram`: negative samples for each pair."""
    subsample: PositiveFloat = 1e-3
    """For `skipgram`: words more frequent than this share of all are left out at random; large corpora want 1e-4."""
    freeze: StrictBool = False
    """Keep the vectors as they are during training."""

    @model_validator(mode="after")
    def _path_for_file(self) -> VectorsConfig:
        if (self.source == "file") != (self.path is not None):
            raise ValueError("model.vectors.path goes with model.vectors.source=file, and only with it")
        return self


class DropoutConfig(Section):
    """Shares set to zero at random during training."""

    words: Fraction = 0.1
    """Share of tokens replaced by the unknown token."""
    masking: Annotated[StrictFloat, Field(ge=0, le=1)] = 0.0
    """Of each text another share of tokens, drawn between 0 and this, becomes the unknown token: what explanations
    erase is then nothing new to the model."""
    embedding: Fraction = 0.3
    """Share of embedding channels, the same for all tokens of a text."""
    recurrent: Fraction = 0.2
    """Share of the encoder's outputs, between layers and before the attention."""
    classifier: Fraction = 0.2
    """Share of the pooled vector."""


class ModelConfig(Section):
    """Embedding -> encoder -> attention -> classifier."""

    embedding_dim: PositiveInt = 128
    """Size of a word vector."""
    vectors: VectorsConfig = VectorsConfig()
    """Word vectors to start from."""
    encoder: EncoderName = "lstm"
    """Recurrent encoder over the embeddings; `none`: attention directly on the embeddings."""
    hidden_size: PositiveInt = 128
    """Units of the encoder, in each direction."""
    num_layers: PositiveInt = 1
    """Layers of the encoder."""
    bidirectional: StrictBool = True
    """Read the text in both directions."""
    anchor: Literal["none", "states", "values"] = "none"
    """Bind the encoder's states to the words they stand on. `states`: each has its word's embedding added, projected;
    `values`: only for the scores, and what is pooled is a function of the word alone."""
    attention: AttentionName = "additive"
    """How the states are weighted and pooled; mean, max and last are controls without learned weights."""
    attention_size: PositiveInt = 64
    """Units inside the score network of additive, sigmoid, mlp and multi_head."""
    num_heads: PositiveInt = 1
    """Heads of multi_head and self_attention."""
    attention_window: PositiveInt = 1
    """Tokens, an odd number, that share each token's weight: more than 1 puts attention on passages, as people do."""
    attention_position: StrictBool = False
    """Learn where in a text attention prefers to lie, such as the last lines of a review."""
    ngrams: Annotated[StrictInt, Field(ge=0, le=3)] = 0
    """Beside the network a linear part on runs of up to so many tokens, added to its logits. 0: none."""
    ngram_buckets: PositiveInt = 262_144
    """Weights of the linear part for each output; n-grams that fall into one bucket share it."""
    output: Literal["softmax", "sigmoid"] | None = None
    """null: softmax for one label a text, sigmoid for several. `sigmoid` on two classes: one output unit."""
    dropout: DropoutConfig = DropoutConfig()
    """Dropout rates."""


class TrainingConfig(Section):
    """The optimisation."""

    epochs: PositiveInt = 4
    """Passes over the training split."""
    max_steps: PositiveInt | None = None
    """End after so many batches, with an evaluation, if the epochs do not end before."""
    batch_size: PositiveInt = 64
    """Texts in a batch, of all processes together."""
    max_tokens_per_batch: PositiveInt | None = None
    """Fewer texts where they are so long that a batch would hold more tokens than this, padding counted."""
    learning_rate: PositiveFloat = 2e-3
    """Highest learning rate of AdamW."""
    ngram_learning_rate: PositiveFloat = 0.3
    """The same for the weights of n-grams, by Adagrad."""
    schedule: Literal["one_cycle", "linear", "constant"] = "one_cycle"
    """After the warm-up: one_cycle falls along a cosine, linear along a line, constant stays."""
    warmup_ratio: Fraction = 0.2
    """Share of all steps over which the learning rate rises."""
    weight_decay: Annotated[StrictFloat, Field(ge=0, allow_inf_nan=False)] = 0.01
    """Decoupled weight decay of AdamW; not applied to biases and embeddings."""
    max_grad_norm: PositiveFloat | None = 1.0
    """Gradients longer than this are scaled down. null: never."""
    label_smoothing: Fraction = 0.0
    """Share of the target spread over the other labels."""
    class_weights: Literal["balanced"] | dict[Name, PositiveFloat] | None = None
    """`balanced`: rare labels weigh more; or a weight for each label name."""
    sampling: Literal["shuffled", "balanced"] = "shuffled"
    """`balanced`: each label gets the same number of places in an epoch; texts of rare labels come several times."""
    attention_alignment: NonNegative = 0.0
    """Weight of a loss that pulls the attention to the words whose values speak for the true label."""
    attention_supervision: NonNegative = 0.0
    """Weight of a loss that pulls the attention to the words people marked, see `data.evidence`."""
    state_tying: NonNegative = 0.0
    """Weight of the squared distance of the encoder's states from the embeddings of their words (Tutek & Šnajder 2020);
    needs hidden_size equal to embedding_dim."""
    calibration: Literal["temperature", "none"] = "temperature"
    """`temperature`: one number, fitted on the validation split after training, makes the probabilities fit how often
    the answers are right (Guo et al. 2017). It changes no answer."""
    metric: Literal["accuracy", "balanced_accuracy", "macro_f1", "micro_f1", "auroc", "log_loss"] | None = None
    """Validation metric the best checkpoint is chosen by. null: accuracy, or micro_f1 for multi-label."""
    cross_validation: Annotated[StrictInt, Field(ge=2)] | None = None
    """Folds. For few texts, with `data.validation_fraction: 0`: the training texts are cut into so many folds, each is
    answered by a model that learns from the others, and training on all of them stops after the epoch at which those
    answers were best. They are in metrics.json, and calibrate the model. null: none."""
    patience: PositiveInt | None = None
    """Stop after this many evaluations without improvement. null: run all epochs."""
    evaluations_per_epoch: PositiveInt = 1
    """Evaluations on the validation split in each epoch."""
    checkpoint_steps: PositiveInt | None = 500
    """Keep all that `--resume` needs after every so many batches; after each evaluation it is kept anyway. null: only
    there."""
    baseline: StrictBool = False
    """Also train a linear model (TF-IDF, logistic regression) on the same splits and say whether this one is better."""
    threads: PositiveInt | None = None
    """Threads that compute on a processor. The trained model does not depend on it. null: one for each processor that
    this process may use (OMP_NUM_THREADS limits them)."""
    device: Annotated[StrictStr, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 where the processor computes in it, else fp32; fp16 needs CUDA. Evaluation is always in fp32."""

    @model_validator(mode="after")
    def _all_epochs_of_a_fold(self) -> TrainingConfig:
        for key in ("max_steps", "patience"):
            if self.cross_validation is not None and getattr(self, key) is not None:
                raise ValueError(f"training.{key} does not go with training.cross_validation, which says when to stop")
        return self


class OutputConfig(Section):
    """What a run leaves behind."""

    dir: Name | None = None
    """Run directory. null: runs/<config>/<time>."""
    prediction_splits: list[Literal["train", "validation", "test"]] = ["test"]
    """Splits whose predictions are written to predictions/<split>.parquet."""
    attention_splits: list[Literal["train", "validation", "test"]] = ["test"]
    """Splits whose attention weights are written to attention/<split>.parquet, token by token."""
    attention_examples: Annotated[StrictInt, Field(ge=0)] = 1000
    """Most examples of a split in the attention dump."""
    audit_examples: Annotated[StrictInt, Field(ge=0)] = 100
    """Texts on which the run ends by measuring how far its explanations can be trusted (`textattn audit`); 0: none."""
    plots: StrictBool = True
    """Draw training, confusion and calibration into plots/ and the model card; takes a second or two."""
    tracking: list[Literal["tensorboard", "mlflow", "wandb"]] = []
    """Tell the run to these tools as well; each is an extra (`pip install 'textattn[mlflow]'`) and follows its own
    variables, such as MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME, WANDB_PROJECT and WANDB_MODE."""


class Config(Section):
    """A textattn run."""

    seed: Annotated[StrictInt, Field(ge=0, lt=2**32)] = 42
    """Seed of everything random."""
    recipe: Recipe = "auto"
    """What settings are that are not given. `long`, `short` (texts of words), `characters` (scripts without spaces) and
    `formulas`: those found best for such texts; `auto`: one of these, by looking at the training texts; `plain`: the
    defaults of this schema. A finished run's training_config.yaml has every setting."""
    data: DataConfig
    """Texts and labels."""
    tokenizer: TokenizerConfig = TokenizerConfig()
    """Text to tokens."""
    model: ModelConfig = ModelConfig()
    """Tokens to logits."""
    training: TrainingConfig = TrainingConfig()
    """Fitting the model."""
    output: OutputConfig = OutputConfig()
    """The run directory."""
