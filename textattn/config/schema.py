"""Every setting of a run: its name, type, range, default and meaning. Defaults are defined nowhere else.

The docstring under a field is its help text, which `textattn schema` puts into the JSON Schema for editors.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

from textattn.parts import part_names

Fraction = Annotated[StrictFloat, Field(ge=0, lt=1)]
# Larger numbers cannot be counted exactly in floating point, and no machine has so many of anything.
LARGEST = 2**53
PositiveInt = Annotated[StrictInt, Field(gt=0, le=LARGEST)]
Count = Annotated[StrictInt, Field(ge=0, le=LARGEST)]
NonNegative = Annotated[StrictFloat, Field(ge=0, allow_inf_nan=False)]
PositiveFloat = Annotated[StrictFloat, Field(gt=0, allow_inf_nan=False)]
Name = Annotated[StrictStr, Field(min_length=1)]


def _path(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain the character NUL (\\0)")
    # As a shell does it. In YAML and in `output.dir=~/runs` no shell sees it.
    return os.path.expanduser(text) if text == "~" or text.startswith("~/") else text  # noqa: PTH111 (may be a Hub id)


FileName = Annotated[StrictStr, Field(min_length=1), AfterValidator(_path)]
"""A path of a file or folder; `~` at its beginning is the home directory."""
Files = FileName | list[FileName]
SomeFiles = FileName | Annotated[list[FileName], Field(min_length=1)]
Recipe = Literal["auto", "long", "short", "characters", "formulas", "plain"]
# Only the names of the files are read. Importing them would load torch.
MODEL = Path(__file__).parents[1] / "model"
ATTENTION = part_names([str(MODEL / "attention")])
ENCODERS = (*part_names([str(MODEL / "encoders")]), "none")
if TYPE_CHECKING:
    AttentionName = str
    EncoderName = str
else:
    AttentionName = Literal[ATTENTION]
    EncoderName = Literal[ENCODERS]


class Section(BaseModel):
    """The base of all sections: unknown keys are errors, and values cannot change after validation."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=(), validate_default=True
    )


class DataFiles(Section):
    """Files of each split: a path or a list of paths. Globs are allowed, and formats such as csv or parquet."""

    train: SomeFiles
    """Files of the training split."""
    validation: Files | None = None
    """Files of the validation split. null: set aside part of the training split."""
    test: Files | None = None
    """Files of the test split. null: compute no test metrics."""


class Unlabelled(Section):
    """Texts without labels, from the labelled data or from elsewhere."""

    path: SomeFiles | None = None
    """Files (globs allowed), a folder or a data set on the Hub. null: the same as `data.path`."""
    name: Name | None = None
    """Configuration (subset) of a Hub data set."""
    revision: Name | None = None
    """Branch, tag or commit of a Hub data set."""
    splits: Annotated[list[Name], Field(min_length=1)] | None = None
    """Splits to read. null: all splits of `path`."""
    text: Name | list[Name] | None = None
    """Column or columns that hold the text. null: the same as `data.text`."""

    @model_validator(mode="after")
    def _splits_without_path(self) -> Unlabelled:
        if self.path is None:
            if self.splits is None:
                raise ValueError("give data.unlabelled.path, or name splits of data.path in data.unlabelled.splits")
            if extra := [key for key in ("name", "revision", "text") if getattr(self, key) is not None]:
                raise ValueError(f"data.unlabelled.{extra[0]} requires data.unlabelled.path")
        return self


class DataConfig(Section):
    """Where the texts and labels are read from."""

    path: FileName | None = None
    """A file such as a csv, a folder, a data set on the Hub (`stanfordnlp/imdb`, or `hf://stanfordnlp/imdb` if the name
    could also be a path), or `bundled:reviews`. Give either `path` or `files`."""
    files: DataFiles | None = None
    """Files of each split, as an alternative to `path`."""
    name: Name | None = None
    """Configuration (subset) of a Hub data set."""
    revision: Name | None = None
    """Commit, branch or tag of a Hub data set. The commit that was read is recorded in environment.json."""
    streaming: StrictBool = False
    """Read a Hub data set over the network without storing its files on this machine. With `max_train_examples`, only
    that many training examples are read, plus the buffer from which they are drawn."""
    text: Name | Annotated[list[Name], Field(min_length=1)] = "text"
    """Column that holds the text, or several columns, which are joined as segments with a separator token."""
    label: Name | Annotated[list[Name], Field(min_length=2)] = "label"
    """Column that holds the label: a string, a number, a boolean, or a list of them (multi-label). Or a list of columns
    of 0 and 1 (or false and true), each of which is a label (multi-label)."""
    label_names: Annotated[list[Name], Field(min_length=2)] | None = None
    """Names of the labels 0, 1, … for data whose labels are integers without names."""
    label_map: dict[StrictStr, Name | None] | None = None
    """Other names for labels as they stand in the data, such as `{POS: pos, "nan": null}`. null: the row has no label
    and is left out; of several labels, only this one is left out."""
    evidence: Name | None = None
    """Column with the parts of the text that are the reason for its label: [start, end] pairs of character positions,
    strings, or (with `evidence_tokens`) a 0 or 1 for each token. Used by `textattn audit` and
    `training.attention_supervision`."""
    evidence_tokens: Name | None = None
    """Column with the tokens to which the 0s and 1s of `evidence` refer."""
    id: Name | None = None
    """Column that names each row, for instance a ticket number. Reports and predictions refer to rows by it. null: rows
    are called by their file and line (`tickets.csv:2966`)."""
    group: Name | None = None
    """Column whose rows stay together when data are set aside for validation, for the test or for cross-validation: the
    rows of one customer, author or document. Rows without a value count as unrelated."""
    time: Name | None = None
    """Column with a date or a number that puts the rows in order. What is set aside for the test are then the last
    rows, and for validation the last of the others."""
    label_separator: Name | None = None
    """Separator, for instance `,`, that splits the label column of csv and tsv files into several labels
    (multi-label)."""
    train_split: Name = "train"
    """Split to train on."""
    validation_split: Name | None = "validation"
    """Split that the best checkpoint is selected on. If the data have no such split, `validation_fraction` of the
    training split is set aside."""
    test_split: Name | None = "test"
    """Split for the final metrics. Nothing is ever selected on it. If the data have no such split, `test_fraction` of
    the training split is set aside. null: none."""
    unlabelled: Unlabelled | None = None
    """Texts without labels. They are used for the vocabulary and the word vectors and, with `teacher`, for training."""
    teacher: FileName | None = None
    """Model (run directory, bundle or `hf://user/name`) whose predictions become the labels of the texts without
    labels. These texts are then trained on like the others."""
    validation_fraction: Annotated[StrictFloat, Field(ge=0, lt=1)] = 0.1
    """Share of the training split to set aside for validation (seeded, stratified by label) if there is no validation
    split. 0: no validation; the model of the last epoch is kept and is not calibrated."""
    test_fraction: Fraction | None = None
    """Share of the training split to set aside for the test if there is no test split, chosen like the validation
    split. 0: no test. null: 0.2, but 0 with `files`, with `training.cross_validation`, and where there are too few rows
    (fewer than 50, or fewer than 5 of every label). The training_config.yaml of a finished run contains the share that
    was used."""
    validation_rows: Literal["random", "last"] = "random"
    """Which rows to set aside for validation and for the test: random ones, or the last ones of each label. Choose
    `last` if related rows follow one another (the same film, author or day): the texts set aside are then less similar
    to training texts. With `time` the last rows are chosen whatever their labels."""
    max_train_examples: PositiveInt | None = None
    """Train on at most this many examples, drawn at random (seeded). null: use all examples."""
    duplicates: Literal["keep", "drop", "error"] = "keep"
    """What to do with training rows that stand there twice, with the same text and labels, and with texts of the
    training split that are also in the validation or test split. `drop`: leave them out of the training split; `error`:
    stop and name them."""
    on_bad_row: Literal["error", "skip"] = "error"
    """What to do with a malformed row or one without text or label. `error`: stop and report its file, row and column;
    `skip`: skip the row and count it."""
    encoding: Name | None = None
    """Encoding of text files, such as csv and jsonl. null: recognised; a note names it if it is not UTF-8."""
    delimiter: Name | None = None
    """Character between the cells of csv and tsv files: `,`, `;`, `|` or another one, or the word `tab`. null:
    recognised; a note names it if it is not the one that the suffix stands for."""
    quoting: Literal["minimal", "none"] | None = None
    """Quotation marks in csv and tsv files. `minimal`: they enclose cells that contain a delimiter or a line break;
    `none`: they are characters like others, and every line is a row. null: recognised."""
    escape: Name | None = None
    r"""Character before a quotation mark inside an enclosed cell of csv and tsv files, usually `\`; `none`: quotation
    marks are doubled. null: recognised."""
    header: StrictBool = True
    """Whether the first line of csv and tsv files names the columns. false: it is a row, and the columns are called
    `column_1`, `column_2` and so on."""

    @model_validator(mode="before")
    @classmethod
    def _older_keys(cls, values: Any) -> Any:
        """Read the former spellings of `unlabelled`, which occur in the training_config.yaml of older runs."""
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
            raise ValueError("data.unlabelled needs data.unlabelled.path if data.files is used")
        for name, value, word in (("delimiter", self.delimiter, "tab"), ("escape", self.escape, "none")):
            if value not in (None, word) and (len(value) != 1 or value in '"\r\n\0'):
                raise ValueError(f"data.{name} must be one character or {word}, got {value!r}")
        if self.delimiter is not None and self.delimiter == self.escape:
            raise ValueError("data.delimiter and data.escape are the same character")
        if self.streaming and self.path is None:
            raise ValueError("data.streaming requires data.path")
        texts = [self.text] if isinstance(self.text, str) else self.text
        if self.unlabelled is not None and self.unlabelled.text is not None:
            given = 1 if isinstance(self.unlabelled.text, str) else len(self.unlabelled.text)
            if given != len(texts):
                raise ValueError(f"data.unlabelled.text names {given} columns, but data.text names {len(texts)}")
        labels = [self.label] if isinstance(self.label, str) else self.label
        if both := [name for name in labels if name in texts]:
            raise ValueError(f"data.text and data.label are both {both[0]!r}")
        if len(set(labels)) < len(labels):
            raise ValueError("data.label names the same column twice")
        if not isinstance(self.label, str):
            for key in ("label_names", "label_separator", "label_map"):
                if getattr(self, key) is not None:
                    raise ValueError(f"data.{key} is for one label column, but data.label names {len(labels)}")
        if len(set(texts)) < len(texts):
            raise ValueError("data.text names the same column twice")
        if self.label_names is not None and len(set(self.label_names)) < len(self.label_names):
            raise ValueError("data.label_names contains the same name twice")
        if self.group is not None and self.time is not None:
            raise ValueError("data.group and data.time cannot be used together: the last rows may be of any group")
        if self.group is not None and self.validation_rows == "last":
            raise ValueError("data.group draws groups at random; it does not go with data.validation_rows: last")
        if self.evidence_tokens is not None and self.evidence is None:
            raise ValueError("data.evidence_tokens requires data.evidence")
        if self.evidence is not None and not isinstance(self.text, str):
            raise ValueError("data.evidence needs a single text column, but data.text names several")
        return self


class TokenizerConfig(Section):
    """How texts are split into tokens. The tokenizer is trained on the training split and the texts without labels
    only."""

    type: Literal["word", "wordpiece", "bpe", "unigram", "char", "formula", "composition", "pretrained"] = "word"
    """`char` suits scripts without spaces. `composition` reads a chemical formula as its elements and their shares, so
    that Li2O and Li4O2 are the same; `formula` reads it as it is written. `pretrained` loads the tokenizer at
    `path`."""
    path: FileName | None = None
    """For `pretrained`: a tokenizer.json, a folder that contains one, or a Hub model id."""
    vocab_size: Annotated[StrictInt, Field(ge=10, le=LARGEST)] = 30_000
    """Largest size of the vocabulary, including special tokens."""
    min_frequency: PositiveInt = 2
    """How often a token must occur in the texts that train the tokenizer to enter the vocabulary."""
    lowercase: StrictBool | None = None
    """Convert texts to lower case. null: yes, except for formulas."""
    nfkc: StrictBool = True
    """Apply Unicode NFKC normalisation (full-width letters, ligatures)."""
    strip_html_breaks: StrictBool = True
    """Replace `<br />` with a space."""
    max_length: PositiveInt = 256
    """Largest number of tokens of a text. Longer texts are truncated, and their number is reported."""
    truncation: Literal["head", "tail", "head_tail"] = "head"
    """Which part of a long text to keep: its beginning, its end, or half of `max_length` from each."""

    @model_validator(mode="after")
    def _path_for_pretrained(self) -> TokenizerConfig:
        if (self.type == "pretrained") != (self.path is not None):
            raise ValueError("tokenizer.type=pretrained requires tokenizer.path, and no other type allows it")
        return self


class VectorsConfig(Section):
    """The word vectors at the start of training."""

    source: Literal["random", "file", "skipgram", "periodic_table"] = "random"
    """`file`: read vectors in the text format of word2vec, GloVe or fastText. `skipgram`: train vectors with gensim on
    the texts of the run. `periodic_table`, for tokenizer.type=composition: elements that are close in the periodic
    table start with similar vectors, and so do similar amounts."""
    path: FileName | None = None
    """For `file`: the file of vectors, plain or gzip."""
    epochs: PositiveInt = 5
    """For `skipgram`: number of passes over the texts."""
    window: PositiveInt = 5
    """For `skipgram`: number of context words on each side."""
    negative: PositiveInt = 5
    """For `skipgram`: number of negative samples for each pair."""
    subsample: PositiveFloat = 1e-3
    """For `skipgram`: words that make up more than this share of all words are skipped at random. 1e-4 suits large
    corpora."""
    freeze: StrictBool = False
    """Do not update the vectors during training."""

    @model_validator(mode="after")
    def _path_for_file(self) -> VectorsConfig:
        if (self.source == "file") != (self.path is not None):
            raise ValueError("model.vectors.source=file requires model.vectors.path, and no other source allows it")
        return self


class DropoutConfig(Section):
    """Dropout rates during training."""

    words: Fraction = 0.1
    """Share of tokens to replace with the unknown token."""
    masking: Annotated[StrictFloat, Field(ge=0, le=1)] = 0.0
    """Replace a further share of the tokens of each text, drawn anew between 0 and this value, with the unknown token.
    The model then knows texts with erased words, which explanations rely on."""
    embedding: Fraction = 0.3
    """Share of embedding channels to drop, the same channels for all tokens of a text."""
    recurrent: Fraction = 0.2
    """Share of the encoder's outputs to drop, between its layers and before the attention."""
    classifier: Fraction = 0.2
    """Share of the pooled vector to drop before the classifier."""


# A fitted linear part stores 4 bytes for each bucket, and weights only for the n-grams that it knows.
FITTED_BUCKETS = 2**21


class ModelConfig(Section):
    """The network: embedding -> encoder -> attention -> classifier."""

    embedding_dim: PositiveInt = 128
    """Size of a word vector."""
    vectors: VectorsConfig = VectorsConfig()
    """Word vectors at the start of training."""
    encoder: EncoderName = "lstm"
    """Recurrent encoder over the embeddings. `none`: attention reads the embeddings directly."""
    hidden_size: PositiveInt = 128
    """Units of the encoder in each direction."""
    num_layers: PositiveInt = 1
    """Layers of the encoder."""
    bidirectional: StrictBool = True
    """Read the text in both directions."""
    anchor: Literal["none", "states", "values"] = "none"
    """Bind each encoder state to the word at its position. `states`: add the projected embedding of the word to the
    state. `values`: add it for the attention scores only, and pool a vector that depends on the word alone."""
    attention: AttentionName = "additive"
    """How the states are weighted and pooled. mean, max and last are controls without learned weights."""
    attention_size: PositiveInt = 64
    """Units inside the score network of additive, sigmoid, mlp and multi_head."""
    num_heads: PositiveInt = 1
    """Heads of multi_head and self_attention."""
    attention_window: PositiveInt = 1
    """Odd number of tokens over which each attention weight is spread. More than 1 puts the attention on passages, as
    human readers do."""
    attention_position: StrictBool = False
    """Learn which parts of a text deserve more attention, such as the last lines of a review."""
    ngrams: Annotated[StrictInt, Field(ge=0, le=3)] = 0
    """Add the logits of a linear model on n-grams of up to this many tokens to those of the network. 0: none."""
    ngram_buckets: PositiveInt = 262_144
    """Number of weights of the n-gram model for each output. N-grams in the same bucket share a weight."""
    linear: Literal["together", "first", "only"] = "together"
    """How the linear model on n-grams is learned. `together`: its weights are trained with the network. `first`: it is
    fitted before the network, as a logistic regression on features like TF-IDF, and the network learns what it leaves.
    `only`: it is fitted, and there is no network. With `first` and `only`, model.ngrams is 2 and model.ngram_buckets is
    2,097,152 if they are not given: only n-grams that occur in several texts get weights, so that more buckets cost
    little."""
    output: Literal["softmax", "sigmoid"] | None = None
    """null: softmax if each text has one label, sigmoid if it may have several. `sigmoid` with two classes: a single
    output unit."""
    dropout: DropoutConfig = DropoutConfig()
    """Dropout rates."""

    @model_validator(mode="before")
    @classmethod
    def _ngrams_to_fit(cls, values: Any) -> Any:
        """Give the linear part that is fitted its n-grams."""
        if not isinstance(values, Mapping) or values.get("linear") not in ("first", "only"):
            return values
        return {"ngrams": 2, "ngram_buckets": FITTED_BUCKETS} | dict(values)


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
    """Number of folds, for small data sets with `data.validation_fraction: 0`. Each fold is predicted by a model
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


class Config(Section):
    """The settings of a textattn run."""

    seed: Annotated[StrictInt, Field(ge=0, lt=2**32)] = 42
    """Seed of all random numbers."""
    recipe: Recipe = "auto"
    """Source of the values of settings that are not given. `long` and `short` (texts made of words), `characters`
    (scripts without spaces) and `formulas` (chemical formulas): the values that worked best for such texts. `auto`:
    choose one of these by the training texts. `plain`: the defaults of this schema. The training_config.yaml of a
    finished run contains every setting."""
    task: Literal["classification", "ordinal", "regression"] = "classification"
    """`classification`: labels without an order, one or several for each text. `ordinal`: grades, such as stars, from
    labels that are numbers or that `data.label_names` puts in order. `regression`: a number, such as a price, in the
    column `data.label`."""
    data: DataConfig
    """The texts and their labels."""
    tokenizer: TokenizerConfig = TokenizerConfig()
    """How texts are split into tokens."""
    model: ModelConfig = ModelConfig()
    """The network that turns tokens into logits."""
    training: TrainingConfig = TrainingConfig()
    """How the model is optimised, selected and calibrated."""
    output: OutputConfig = OutputConfig()
    """The files that a run writes."""

    @model_validator(mode="after")
    def _numbers_have_no_labels(self) -> Config:
        if self.task == "regression":
            for section, key, value in WITHOUT_LABELS:
                if getattr(getattr(self, section), key) != value:
                    raise ValueError(f"{section}.{key} is for labels and does not go with task: regression")
            if not isinstance(self.data.label, str):
                raise ValueError("data.label must name one column with task: regression")
        return self
