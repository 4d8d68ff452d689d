"""The commonest commands without Typer: `predict TEXT …` and `explain TEXT …`, with --model and --json at most.

Typer, and pydantic, which it converts arguments with, take a third of the time of a whole prediction to load. Whatever
is not said in these words, or not understood here, is left to Typer, whose answer is the same.
"""

from __future__ import annotations

from collections.abc import Sequence


def run_quickly(arguments: Sequence[str]) -> bool:
    """Runs the command if it is one of those; otherwise does nothing and says False."""
    parsed = _parse(arguments[1:]) if arguments and arguments[0] in ("predict", "explain") else None
    if parsed is None:
        return False
    from textattn.cli.answers import check_arguments, open_model, print_predictions

    texts, model, json = parsed
    check_arguments(texts)
    classifier = open_model(model)
    if arguments[0] == "predict":
        print_predictions(classifier, [texts], json=json)
    else:
        from textattn.cli.explanations import Display, print_explanations
        from textattn.explain.explanations import Question

        print_explanations(classifier, [texts], [Question()], Display(json=json))
    return True


def _parse(words: Sequence[str]) -> tuple[list[str], str | None, bool] | None:
    """Texts, --model and --json; None where there is anything else, or no text."""
    texts: list[str] = []
    model: str | None = None
    json = False
    rest = iter(words)
    for word in rest:
        if word == "--json":
            json = True
        elif word in ("--model", "-m"):
            model = next(rest, None)
            if model is None:
                return None
        elif word.startswith("--model="):
            model = word.removeprefix("--model=")
        elif word.startswith("-"):
            return None
        else:
            texts.append(word)
    return (texts, model, json) if texts else None
