"""The model card, README.md of a run: the model, its metrics and its use, with the metadata of the Hub at the top.

Labels and names of data are words of strangers, and pages of the Hub show Markdown with HTML in it: `_text` and `_code`
let them be seen and nothing else.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from textattn.config import Config
from textattn.inference.visible import one_line, visible
from textattn.measure.plots import CONFUSION, LABELS, NUMBERS, RELIABILITY, TRAINING
from textattn.report import short_epoch
from textattn.runs.baseline import in_words
from textattn.storage.model_files import SavedConfig
from textattn.storage.records import DatasetRecord, Environment, StartRecord
from textattn.storage.run_dir import PLOTS

SHOWN = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "micro_f1",
    "auroc",
    "average_precision",
    "log_loss",
    "brier",
    "ece",
    "mae",
    "rmse",
    "r2",
    "spearman",
)
# Of the baseline, beside its headline.
SUMMARY = ("macro_f1", "log_loss", "ece", "rmse", "r2")
# Punctuation that means something inside a line of Markdown, also in the dialects of GitHub and the Hub, where a bare
# address becomes a link, @name a mention and $x$ a formula.
_MARKUP = re.compile(r"[\\`*_\[\]<>&|~!:@#$]|(?<=[wW]{3})\.")
PICTURES = {
    TRAINING: "Training loss and validation metric over the steps",
    CONFUSION: "Predictions for each true label",
    NUMBERS: "Predicted over true numbers, and the errors",
    LABELS: "Precision, recall and F1 of each label",
    RELIABILITY: "Accuracy of predictions by their probability, and the number of predictions",
}


def model_card(config: Config, model: SavedConfig, metrics: dict[str, Any], environment: Environment) -> str:
    """Write the model card in Markdown with YAML front matter; it contains only metrics that were measured."""
    dataset = environment.dataset
    measured: dict[str, Any] = {name: metrics[name] for name in ("validation", "test") if name in metrics}
    extra_texts = ""
    if number := dataset.num_pseudo_labelled:
        extra_texts = f" The labels of {number:,} training texts are predictions of {_code(str(config.data.teacher))}."
    unlabelled = config.data.unlabelled
    if unlabelled is not None and (number := dataset.num_unlabelled):
        source = unlabelled.path or dataset.source
        source = source if isinstance(source, str) else ", ".join(source)
        extra_texts = f" The vocabulary was also learned from {number:,} texts without labels in {_code(source)}."
    lines: list[str] = [
        "---",
        _yaml(_metadata(dataset, measured)),
        "---",
        "",
        _title(model),
        "",
        f"Trained by textattn {environment.textattn} on {_code(dataset.source)}: "
        + ", ".join(f"{split.num_examples:,} {name}" for name, split in dataset.splits.items())
        + f" texts.{extra_texts}{_start(environment.start)} "
        + f"The model has {metrics['num_parameters']:,} parameters: {model.summary()}. "
        + f"Training with `training_config.yaml` (seed {config.seed}) repeats the run.",
        "",
        "## Results",
        "",
        *_table(measured),
    ]
    for name, split in measured.items():
        interval = split["interval_95"]
        lines += [
            "",
            f"On {name}, the 95 % interval of {interval['metric']} is {_number(interval['low'])} to "
            f"{_number(interval['high'])} ({interval['samples']} bootstrap resamples). {_always(split)}",
        ]
    if len(measured) == 2:
        lines += [
            "",
            "The checkpoint was selected on the validation split; the test split was used only once, for this table.",
        ]
    folds = metrics.get("cross_validation")
    if folds is not None:
        lines += ["", _cross_validated(folds, config.training.epochs)]
    elif not measured:
        lines += ["Nothing was measured, because the data have neither a validation nor a test split."]
    last = measured.get("test") or measured.get("validation")
    temperature = metrics.get("temperature", 1.0)
    where = "the folds" if folds else "the validation split"
    if last is not None and temperature != 1 and "ece_uncalibrated" in last:
        lines += [
            "",
            f"Probabilities are calibrated on {where} (temperature {temperature:.3f}, Guo et al. 2017). The expected "
            f"calibration error was {last['ece_uncalibrated']:.4f} before and is {last['ece']:.4f} after calibration.",
        ]
    if last is not None and "per_class" in last:
        lines += ["", "| label | precision | recall | F1 | texts |", "|---|---|---|---|---|"]
        for label, row in last["per_class"].items():
            cells = [_text(label), *(f"{row[name]:.4f}" for name in ("precision", "recall", "f1"))]
            lines.append(f"| {' | '.join(cells)} | {row['support']} |")
    for name in metrics.get("plots", []):
        lines += ["", f"![{PICTURES.get(name, name)}]({PLOTS}/{name})"]
    lines += [
        *_against(metrics.get("baseline")),
        "",
        *(["[report.html](report.html) tells more: errors, thresholds, slices.", ""] if config.output.report else []),
        "## How to use it",
        "",
        "```",
        'textattn predict --model . "a sentence"',
        'textattn explain --model . "a sentence"',
        "```",
        "",
        *_trust(metrics.get("audit")),
        "",
    ]
    return "\n".join(lines)


def _start(start: StartRecord | None) -> str:
    """The sentence about the model that the run went on from."""
    if start is None:
        return ""
    replayed = "none of its rows were" if start.rows is None else f"{start.rows.get('train', 0):,} of its rows were"
    return (
        f" The run goes on from {_code(start.model)}, a model of {len(start.labels)} labels: {replayed} trained on "
        f"again, and {start.num_new_tokens:,} words were added to its vocabulary."
    )


def _title(model: SavedConfig) -> str:
    if model.target is not None:
        return f"# Numbers from texts: {_text(model.labels[0])}"
    return f"# Text classifier: {', '.join(map(_text, model.labels[:8]))}{' …' if len(model.labels) > 8 else ''}"


def _always(split: dict[str, Any]) -> str:
    """What a model without texts would reach, and of numbers how often their intervals are right."""
    if "mean_baseline" in split:
        mean, interval = split["mean_baseline"], split["interval"]
        said = f"Always predicting the mean, {mean['prediction']:.4g}, would give mae {mean['mae']:.4g}."
        if interval is not None:
            said += (
                f" The intervals are {interval['margin']:.4g} to each side of the prediction. They should cover "
                f"{interval['wanted_coverage']:.0%} of the true numbers, and cover {interval['coverage']:.1%}."
            )
        return said
    majority = split["majority_class"]
    metric = "accuracy" if "accuracy" in majority else "micro_f1"
    return f"Always predicting {_code(majority['label'])} would give {metric} {majority[metric]:.4f}."


def _number(value: float | None) -> str:
    if value is None:
        return "undefined"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4f}"


def _against(baseline: dict[str, Any] | None) -> list[str]:
    """The section that compares the model with a linear model."""
    if baseline is None or baseline["against"] is None:
        return []
    against = baseline["against"]
    measured = baseline[against["split"]]
    shown = [
        f"{name} {measured[name]:.4f}" for name in (measured["headline"], *SUMMARY) if measured.get(name) is not None
    ]
    return [
        "",
        "## Comparison with a linear model",
        "",
        f"{baseline['model']} ({baseline['num_features']:,} features, C = {baseline['C']:g}), on {against['split']}: "
        f"{', '.join(dict.fromkeys(shown))}. {in_words(against, measured['headline'])}",
    ]


def _trust(audit: dict[str, Any] | None) -> list[str]:
    """The section about how far the highlights of `explain` can be trusted, according to the audit."""
    if audit is None:
        return [
            "Whether the words that `explain` highlights are the reason for the predictions has not been measured for "
            "this model; `textattn audit` measures it."
        ]
    lines = ["## Can the highlighted words be trusted?", "", audit["verdict"], ""]
    methods = audit["methods"].values()
    # Audits of earlier versions have neither, and short ones no search for the best order.
    searched = any("share_of_best" in measured for measured in methods)
    with_signs = any("signs" in measured for measured in methods)
    header = ["method", "comprehensiveness", "sufficiency", "top word flips", "erased until flip"]
    header += ["of the best order"] if searched else []
    header += ["right signs, for", "right signs, against"] if with_signs else []
    lines += [f"| {' | '.join(header)} | texts |", "|---" * len(header) + "|---|"]
    for name, measured in sorted(audit["methods"].items(), key=lambda item: item[0] == "random"):
        values = [f"{measured[kind]['deletion']['mean']:.3f}" for kind in ("comprehensiveness", "sufficiency")]
        values += [f"{measured['top_token_flips']:.1%}", f"{measured['erased_until_flip']:.0%}"]
        values += [_share(measured.get("share_of_best"))] if searched else []
        signs = measured.get("signs") or {"supporting": None, "opposing": None}
        values += [_share(signs[side]) for side in ("supporting", "opposing")] if with_signs else []
        lines.append(f"| {name} | {' | '.join(values)} | {measured['num_examples']} |")
    lines += [
        "",
        "Comprehensiveness is how far the probability of the predicted label falls without the words that a method "
        "ranks first (mean of 1, 5, 10, 20 and 50 % of the tokens); higher is better. Sufficiency is how far it falls "
        "if only these words are left; lower is better (DeYoung et al. 2020). The last row is a random ranking.",
    ]
    if searched:
        lines[-1] += (
            " The share of the best order says how near a method is to the order that a greedy search found, by the "
            "area between the erasure curves of random words and of the method; 100 % is the best order known."
        )
    if with_signs:
        lines[-1] += (
            " A sign is right if the probability falls without a word that is shown as for the label, and rises "
            "without one that is shown as against it; the last row has the shares of all words."
        )
    facts = audit.get("attention")
    if facts is not None and facts["tau_gradient"] is not None:
        loo = facts["tau_leave_one_out"]
        lines += [
            "",
            "Kendall's tau between the rankings of words by attention and by the gradients is "
            f"{facts['tau_gradient']['mean']:.2f}"
            + (f"; between attention and leave-one-out it is {loo['mean']:.2f}" if loo is not None else "")
            + f". Equal attention weights would change {facts['uniform_decisions_changed']:.1%} of the predictions.",
        ]
    return lines


def _share(interval: dict[str, Any] | None) -> str:
    return "–" if interval is None else f"{interval['mean']:.0%}"


def _cross_validated(folds: dict[str, Any], epochs: int) -> str:
    metric, interval = folds["headline"], folds["interval_95"]
    stopped = (
        f"Training stopped after {short_epoch(folds['epoch'])} of {epochs} epochs, because the predictions of "
        "cross-validation were best there"
    )
    if not folds["epoch"]:
        stopped = "The model is the linear model alone, and this is how good the predictions of cross-validation were"
    return (
        f"{stopped}: {metric} {folds[metric]:.4f} (95 % interval {_number(interval['low'])} to "
        f"{_number(interval['high'])}). The {folds['num_examples']:,} training texts were divided into "
        f"{folds['num_folds']} folds, and the texts of each fold were predicted by a model trained on the other folds."
    )


def _table(measured: dict[str, Any]) -> list[str]:
    if not measured:
        return []
    lines = ["| metric | " + " | ".join(measured) + " |", "|---|" + "---|" * len(measured)]
    for name in SHOWN:
        if any(split.get(name) is not None for split in measured.values()):
            values = [f"{s[name]:.4f}" if s.get(name) is not None else "–" for s in measured.values()]
            lines.append(f"| {name} | " + " | ".join(values) + " |")
    return lines


def _text(name: str) -> str:
    """A name as Markdown that shows it: on one line, and no character of it is markup, HTML, a link or a formula."""
    return _MARKUP.sub(r"\\\g<0>", one_line(visible(name)))


def _code(name: str) -> str:
    """A name as a code span; more backticks than stand in the name itself begin and end it."""
    shown = one_line(visible(name))
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    # One space at each end is not shown, and a backtick must not touch the fence.
    return f"{fence} {shown} {fence}" if shown.strip("` ") != shown or not shown else f"{fence}{shown}{fence}"


def _yaml(metadata: dict[str, Any]) -> str:
    text = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)
    # With escapes it is the same name still.
    return (text if visible(text) == text else yaml.safe_dump(metadata, sort_keys=False)).rstrip()


def _metadata(dataset: DatasetRecord, measured: dict[str, Any]) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "library_name": "textattn",
        "pipeline_tag": "text-classification",
        "tags": ["text-classification", "attention", "textattn"],
    }
    source = dataset.source
    on_hub = dataset.revision is not None
    if on_hub:
        metadata["datasets"] = [source]
    results = [
        {
            "task": {"type": "text-classification"},
            "dataset": {"name": source, "type": source if on_hub else "local", "split": name}
            | ({"revision": dataset.revision} if on_hub else {}),
            "metrics": [
                {"type": metric, "value": split[metric]}
                for metric in ("accuracy", "macro_f1", "micro_f1", "mae", "rmse", "r2")
                if split.get(metric) is not None
            ],
        }
        for name, split in measured.items()
    ]
    if results:
        metadata["model-index"] = [{"name": "textattn", "results": results}]
    return metadata
