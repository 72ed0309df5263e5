"""Wrong study files: every problem names its place, what was found and what to write instead."""

from __future__ import annotations

from typing import Any

import pytest

from sweepd import spec, strict_yaml
from sweepd.errors import SpecError

GOOD = """\
name: digits
task: {objective: train.py:objective}
objectives: [{metric: acc, direction: maximize}]
space: {lr: {type: float, low: 1e-5, high: 1e-2, log: true}}
budget: {trials: 10}
"""


def problems_of(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        spec.parse(strict_yaml.load(text), "study.yaml")
    return caught.value.problems


def changed(word: str, value: str) -> str:
    """Return GOOD with another value of a word of the first level; no value takes the word out."""
    kept = [line for line in GOOD.splitlines() if not line.startswith(f"{word}:")]
    return "\n".join([*kept, f"{word}: {value}"] if value else kept) + "\n"


def parameter(text: str) -> str:
    return changed("space", f"{{x: {text}}}")


def test_the_file_that_all_others_vary_is_right() -> None:
    assert spec.parse(strict_yaml.load(GOOD)).name == "digits"


KNOWN = (
    "Known here: name, task, objectives, space, sampler, scheduler, budget, resources, limits, retry, "
    "executor, on_disconnect"
)
NAME_RULE = "write a name of letters, digits, _, - and . that begins with a letter or digit"

#: A wrong file and its problems.
WRONG: dict[str, tuple[str, list[str]]] = {
    # the file
    "empty": (
        "",
        [
            "the study: is empty; write a mapping such as "
            "{name: ..., task: ..., objectives: ..., space: ..., budget: ...}"
        ],
    ),
    "a list": (
        "[1, 2]",
        [
            "the study: is a list; write a mapping such as "
            "{name: ..., task: ..., objectives: ..., space: ..., budget: ...}"
        ],
    ),
    "nothing given": (
        "{}",
        [
            "name: is missing; write the name of the study",
            "task: is missing; write what runs, as task: {objective: train.py:objective}",
            "objectives: is missing; write objectives: [{metric: val_loss, direction: minimize}]",
            "budget: is missing; write budget: {trials: 100}",
        ],
    ),
    "unknown word": (
        GOOD + "samplr: {type: tpe}\n",
        [
            f"samplr: unknown word; did you mean sampler? {KNOWN}",
        ],
    ),
    "word of another section": (
        GOOD + "trials: 10\n",
        [
            f"trials: unknown word; did you mean budget.trials? {KNOWN}",
        ],
    ),
    # name
    "name with a space": (changed("name", "my digits"), [f"name: is the text 'my digits'; {NAME_RULE}"]),
    "name is a number": (changed("name", "2024"), [f"name: is 2024; {NAME_RULE}, in quotes"]),
    "name is empty": (changed("name", '""'), [f"name: is the text ''; {NAME_RULE}"]),
    # task
    "no task": (
        changed("task", "{workdir: .}"),
        [
            "task: says nothing to run; write one of objective, nemo or command, "
            "as objective: train.py:objective"
        ],
    ),
    "two tasks": (
        changed("task", "{objective: train.py:f, command: [python, train.py]}"),
        ["task: has objective and command; keep one of them"],
    ),
    "objective without function": (
        changed("task", "{objective: train.py}"),
        [
            "task.objective: is the text 'train.py'; "
            "write a function of a file or a module, as train.py:objective or pkg.train:objective"
        ],
    ),
    "command is text": (
        changed("task", "{command: python train.py}"),
        ["task.command: is the text 'python train.py'; write a list such as [python, train.py, \"{args}\"]"],
    ),
    "command is an empty list": (
        changed("task", "{command: []}"),
        ['task.command: is a list; write a list of at least one item such as [python, train.py, "{args}"]'],
    ),
    "command without a program": (
        changed("task", '{command: [""]}'),
        ["task.command[0]: is empty; write the program to run"],
    ),
    "number in a command": (
        changed("task", "{command: [sleep, 5, true]}"),
        [
            "task.command[1]: is 5; write text, in quotes",
            "task.command[2]: is true; write text, in quotes",
        ],
    ),
    "command names no parameter": (
        changed("task", '{command: [t, "--a={lr}", "--b={rate}", "{args}"]}'),
        ["task.command[2]: has {rate}, and the space has no parameter of that name; write {lr} or {args}"],
    ),
    "args of a command": (
        changed("task", "{command: [t], args: {a: 1}}"),
        ["task.args: are for the function of a nemo recipe, and this is command; remove them"],
    ),
    "a number in env": (
        changed("task", "{objective: t.py:f, env: {A: 1, 2B: x, CUDA_VISIBLE_DEVICES: x}}"),
        [
            "task.env.2B: is the text '2B'; write a name of letters, digits and _",
            "task.env.CUDA_VISIBLE_DEVICES: is the text 'CUDA_VISIBLE_DEVICES'; "
            "the agent sets it; ask for devices with resources.gpus",
            "task.env.A: is 1; write text, in quotes",
        ],
    ),
    # objectives
    "objectives is a mapping": (
        changed("objectives", "{metric: acc, direction: maximize}"),
        ["objectives: is a mapping; write a list such as [{metric: val_loss, direction: minimize}]"],
    ),
    "no direction": (
        changed("objectives", "[{metric: acc}]"),
        ["objectives[0].direction: is missing; write direction: minimize or maximize"],
    ),
    "wrong direction and at": (
        changed("objectives", "[{metric: acc, direction: max, at: end}]"),
        [
            "objectives[0].direction: is the text 'max'; write minimize or maximize",
            "objectives[0].at: is the text 'end'; write last or best",
        ],
    ),
    # space
    "command without a space": (
        changed("task", "{command: [t]}").replace("space", "#"),
        [
            "space: is missing; only an objective can do without, and this is command: "
            "write space: {learning_rate: {type: float, low: 1e-5, high: 1e-2, log: true}}"
        ],
    ),
    "parameter's name": (
        changed(
            "space", "{my lr: {type: categorical, choices: [1]}, args: {type: categorical, choices: [1]}}"
        ),
        [
            "space.my lr: is the text 'my lr'; "
            "write a name of letters, digits, _, - and . that begins with a letter or _",
            "space.args: is the text 'args'; in a command {args} means all parameters; write another name",
        ],
    ),
    "parameter is a list": (
        parameter("[16, 32]"),
        ["space.x: is a list; write {type: categorical, choices: [...]} with these choices"],
    ),
    "parameter is a number": (
        parameter("16"),
        [
            "space.x: is 16; write a mapping such as {type: float, low: 0.1, high: 1}; "
            "what does not vary belongs to the task"
        ],
    ),
    "no type": (
        parameter("{low: 1, high: 2}"),
        ["space.x.type: is missing; write type: float, int or categorical"],
    ),
    "foreign type": (
        parameter("{type: log_uniform, low: 1, high: 2}"),
        [
            "space.x.type: is the text 'log_uniform'; did you mean float with log: true? "
            "Write float, int or categorical"
        ],
    ),
    "mistyped type": (
        parameter("{type: categoric, choices: [1]}"),
        ["space.x.type: is the text 'categoric'; did you mean categorical? Write float, int or categorical"],
    ),
    "strange type": (parameter("{type: 7}"), ["space.x.type: is 7; write float, int or categorical"]),
    "words of a float": (
        parameter("{type: float, low: 1e-5, hi: 1, logg: true}"),
        [
            "space.x.high: is missing; write the greatest value",
            "space.x.hi: unknown word; did you mean high? Known here: type, low, high, log, step",
            "space.x.logg: unknown word; did you mean log? Known here: type, low, high, log, step",
        ],
    ),
    "choices of a float": (
        parameter("{type: float, low: 0, high: 1, choices: [1]}"),
        ["space.x.choices: unknown word; Known here: type, low, high, log, step"],
    ),
    "low above high": (
        parameter("{type: float, low: 2, high: 1}"),
        ["space.x.low: is 2.0, above high (1.0); exchange them"],
    ),
    "log from zero": (
        parameter("{type: float, low: 0, high: 1, log: true}"),
        ["space.x.low: is 0.0, and log needs more than 0; raise low or remove log"],
    ),
    "log of an int from zero": (
        parameter("{type: int, low: 0, high: 8, log: true}"),
        ["space.x.low: is 0, and log needs 1 or more; raise low or remove log"],
    ),
    "log and step": (
        parameter("{type: float, low: 0.1, high: 1, log: true, step: 0.1}"),
        ["space.x.step: is 0.1, and log is true; remove one of the two"],
    ),
    "step does not divide": (
        parameter("{type: float, low: 0, high: 1, step: 0.3}"),
        ["space.x.step: is 0.3, which leads from low to 0.9 and not to high; write high: 0.9"],
    ),
    "step of an int does not divide": (
        parameter("{type: int, low: 1, high: 8, step: 3}"),
        ["space.x.step: is 3, which leads from low to 7 and not to high; write high: 7"],
    ),
    "step too large": (
        parameter("{type: float, low: 0, high: 0.5, step: 1}"),
        ["space.x.step: is 1.0, more than high - low (0.5); write a smaller one"],
    ),
    "step of nothing": (
        parameter("{type: float, low: 0, high: 1, step: 0}"),
        ["space.x.step: is 0.0; write a number of more than 0"],
    ),
    "int's step of nothing": (
        parameter("{type: int, low: 0, high: 1, step: 0}"),
        ["space.x.step: is 0; write a whole number of at least 1"],
    ),
    "bounds that are no numbers": (
        parameter("{type: float, low: .nan, high: .inf}"),
        [
            "space.x.low: is nan; write a finite number",
            "space.x.high: is inf; write a finite number",
        ],
    ),
    "bounds in quotes": (
        parameter("{type: float, low: '1e-5', high: 1_000}"),
        [
            "space.x.low: is the text '1e-5'; write a number, in digits and without quotes",
            "space.x.high: is the text '1_000'; write a number, in digits and without quotes",
        ],
    ),
    "int from floats": (
        parameter("{type: int, low: 1.0, high: 2.5}"),
        [
            "space.x.low: is 1.0; write 1, a whole number",
            "space.x.high: is 2.5; write a whole number",
        ],
    ),
    "bounds beyond floats": (
        parameter(f"{{type: int, low: 0, high: {2**53 + 1}}}"),
        [f"space.x.high: is {2**53 + 1}; write a whole number of at most {2**53}"],
    ),
    "a bound of many digits": (
        parameter(f"{{type: float, low: 0, high: 1{'0' * 400}}}"),
        ["space.x.high: is a whole number of more than 64 bits; write a finite number"],
    ),
    "bounds too far apart": (
        parameter("{type: float, low: -1.7e308, high: 1.7e308}"),
        ["space.x.high: high - low is too large for a number; write narrower bounds"],
    ),
    "log is text": (
        parameter("{type: float, low: 1, high: 2, log: yes}"),
        ["space.x.log: is the text 'yes'; write true or false, without quotes"],
    ),
    "no choices": (
        parameter("{type: categorical, choices: []}"),
        ["space.x.choices: is a list; write a list of at least one item such as [16, 32, 64]"],
    ),
    "bounds below whole floats": (
        parameter(f"{{type: int, low: {-(2**53) - 1}, high: '5'}}"),
        [
            f"space.x.low: is {-(2**53) - 1}; write a whole number of at least {-(2**53)}",
            "space.x.high: is the text '5'; write a whole number, in digits and without quotes",
        ],
    ),
    "the same choice twice": (
        parameter("{type: categorical, choices: [1, true, 1.0, 1, {a: 1}, {a: 1}]}"),
        [
            "space.x.choices[3]: is 1, as choices[0] is; remove one of the two",
            "space.x.choices[5]: is a mapping, as choices[4] is; remove one of the two",
        ],
    ),
    "choices that JSON has not": (
        parameter(f"{{type: categorical, choices: [.nan, [.inf], {2**63}]}}"),
        [
            "space.x.choices[0]: is nan; write a finite number, or the text 'nan' in quotes",
            "space.x.choices[1][0]: is inf; write a finite number, or the text 'inf' in quotes",
            "space.x.choices[2]: is a whole number of more than 64 bits; "
            "write a smaller one, or put it in quotes",
        ],
    ),
    # sampler, scheduler
    "sampler is text": (
        GOOD + "sampler: tpe\n",
        ["sampler: is the text 'tpe'; write a mapping such as {type: tpe, seed: 42}"],
    ),
    "seed": (
        GOOD + "sampler: {type: tpee, seed: -1}\n",
        [
            "sampler.type: is the text 'tpee'; write tpe or random",
            "sampler.seed: is -1; write a whole number of at least 0",
        ],
    ),
    "asha without max": (
        GOOD + "scheduler: {type: asha}\n",
        ["scheduler.max: is missing; write at how many reports a trial is complete, as max: 27"],
    ),
    "asha's max below min": (
        GOOD + "scheduler: {type: asha, min: 5, max: 4, eta: 2}\n",
        ["scheduler.max: is 4, below min (5), so there is no rung; max: 40 would make the rungs 5, 10, 20"],
    ),
    "asha's numbers": (
        GOOD + "scheduler: {type: asha, min: 0, max: 2.5, eta: 1}\n",
        [
            "scheduler.min: is 0; write a whole number of at least 1",
            "scheduler.max: is 2.5; write a whole number of at least 1",
            "scheduler.eta: is 1; write a whole number of at least 2",
        ],
    ),
    "asha's metric": (
        GOOD + "scheduler: {type: asha, max: 9, metric: loss, resource: epoch}\n",
        [
            "scheduler.metric: is loss, which is no objective, so its direction is unknown; "
            "write acc or remove it",
            "scheduler.resource: is epoch, and an Optuna objective reports one metric only; "
            "write reports or step",
        ],
    ),
    "asha's resource": (
        GOOD + "scheduler: {type: asha, max: 9, resource: acc}\n",
        ["scheduler.resource: is acc, the objective itself; write reports or step"],
    ),
    "words of no scheduler": (
        GOOD + "scheduler: {max: 9, eta: 4}\n",
        [
            "scheduler.max: means nothing to the scheduler none; remove it or write type: asha",
            "scheduler.eta: means nothing to the scheduler none; remove it or write type: asha",
        ],
    ),
    # budget, resources, limits, retry, executor
    "no trials": (
        changed("budget", "{trials: 0}"),
        ["budget.trials: is 0; write a whole number of at least 1"],
    ),
    "trials of a kind": (
        changed("budget", "{trials: true}"),
        ["budget.trials: is true; write a whole number of at least 1"],
    ),
    "trials are missing": (changed("budget", "{}"), ["budget.trials: is missing; write trials: 100"]),
    "part of a GPU": (
        GOOD + "resources: {gpus: 0.5, cpus: -1}\n",
        [
            "resources.gpus: is 0.5; write a whole number of at least 0",
            "resources.cpus: is -1; write a number of at least 0",
        ],
    ),
    "memory without unit": (
        GOOD + "resources: {memory: 16, gpus: 1, gpu_memory: 24 gigs}\n",
        [
            "resources.memory: is 16; add a unit, 16GB (powers of 1000) or 16GiB (powers of 1024)",
            "resources.gpu_memory: is the text '24 gigs'; "
            "write a size such as 16GB (powers of 1000) or 24GiB (powers of 1024)",
        ],
    ),
    "memory of no GPU": (
        GOOD + "resources: {gpu_memory: 24GB}\n",
        ["resources.gpu_memory: asks for memory of a GPU, and gpus is 0; write gpus: 1 or remove it"],
    ),
    "labels of numbers": (
        GOOD + "resources: {labels: {rack: 7, a b: x}, cpus: many, memory: true}\n",
        [
            "resources.cpus: is the text 'many'; write a number of at least 0, in digits and without quotes",
            "resources.memory: is true; write a size such as 16GB (powers of 1000) or 24GiB (powers of 1024)",
            "resources.labels.a b: is the text 'a b'; write a name without spaces",
            "resources.labels.rack: is 7; write text, in quotes",
        ],
    ),
    "names that are no text": (
        changed("name", "[a]"),
        [f"name: is a list; {NAME_RULE}"],
    ),
    "labels": (
        GOOD + "resources: {labels: [a100]}\n",
        ["resources.labels: is a list; write a mapping such as {pool: a100}"],
    ),
    "time": (
        GOOD + "limits: {time: '12:30'}\n",
        [
            "limits.time: is the text '12:30'; "
            "write a time of more than 0 such as 2h, 1h30m or 90s; a number counts seconds"
        ],
    ),
    "no time": (
        GOOD + "limits: {time: 0s}\n",
        [
            "limits.time: is the text '0s'; "
            "write a time of more than 0 such as 2h, 1h30m or 90s; a number counts seconds"
        ],
    ),
    "attempts": (
        GOOD + "retry: {max_attempts: 0, attempts: 3}\n",
        [
            "retry.max_attempts: is 0; write a whole number of at least 1",
            "retry.attempts: unknown word; did you mean max_attempts? Known here: max_attempts",
        ],
    ),
    "executor": (
        GOOD + "executor: {type: locla}\n",
        ["executor.type: is the text 'locla'; write local or process"],
    ),
    "executor is a number": (
        GOOD + "executor: {type: 7}\n",
        ["executor.type: is 7; write local or process"],
    ),
    "a recipe without NeMo Run": (
        changed("task", "{nemo: pkg.recipes:finetune}") + "executor: {type: process}\n",
        ["executor.type: is process, which cannot run a nemo recipe; write local"],
    ),
}


@pytest.mark.parametrize(("text", "problems"), WRONG.values(), ids=WRONG)
def test_wrong_files(text: str, problems: list[str]) -> None:
    assert problems_of(text) == problems


def test_all_errors_of_a_file_at_once() -> None:
    problems = problems_of(
        """\
        name: my digits
        task: {command: [python, train.py, "{rate}"]}
        objectives: [{metric: acc}]
        space: {lr: {type: float, low: 1, high: 0}, depth: {type: int, low: 1}}
        scheduler: {type: asha}
        budget: {trials: 0}
        colour: blue
        """
    )
    assert [problem.partition(":")[0] for problem in problems] == [
        "name",
        "objectives[0].direction",
        "space.lr.low",
        "space.depth.high",
        "scheduler.max",
        "budget.trials",
        "colour",
    ]


def test_problems_between_sections_are_told_although_another_section_is_wrong() -> None:
    text = changed("task", '{command: [t, "{rate}"]}') + "limits: {time: soon}\n"
    assert [problem.partition(":")[0] for problem in problems_of(text)] == ["limits.time", "task.command[1]"]


def test_the_message_has_source_count_and_lines() -> None:
    with pytest.raises(SpecError) as caught:
        spec.parse(strict_yaml.load(changed("budget", "{trials: 0, x: 1}")), "study.yaml")
    assert str(caught.value).splitlines() == [
        "study.yaml: 2 errors",
        "  budget.trials: is 0; write a whole number of at least 1",
        "  budget.x: unknown word; Known here: trials",
    ]


def test_long_text_is_cut() -> None:
    (problem,) = problems_of(changed("name", "x " * 1000))
    assert len(problem) < 200


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_a_value_nested_too_deeply_is_an_error_like_others() -> None:
    data: dict[str, Any] = {
        "name": "deep",
        "task": {"nemo": "pkg:f", "args": {"a": nested(100_000)}},
        "objectives": [{"metric": "acc", "direction": "maximize"}],
        "space": {"x": {"type": "categorical", "choices": [nested(100_000)]}},
        "budget": {"trials": 1},
    }
    with pytest.raises(SpecError) as caught:
        spec.parse(data)
    assert caught.value.problems == [
        "task.args.a: is nested too deeply; write a flatter value",
        "space.x.choices[0]: is nested too deeply; write a flatter value",
    ]


def test_no_process_can_be_given_a_zero_character() -> None:
    with pytest.raises(SpecError) as caught:
        spec.parse({"task": {"command": ["python", "a\0b"]}})
    assert caught.value.problems[1] == "task.command[1]: is the text 'a\\x00b'; remove the zero character"


@pytest.mark.parametrize("value", [{1: 2}, {"a": {1: 2}}, {1, 2}, b"x", object()], ids=repr)
def test_values_that_are_not_json(value: object) -> None:
    data = {"task": {"nemo": "pkg:f", "args": {"a": value}}}
    with pytest.raises(SpecError) as caught:
        spec.parse(data)
    assert caught.value.problems[1].startswith("task.args.a")
