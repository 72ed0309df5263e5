"""Studies from files and from bare objectives: overrides, paths and seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweepd import spec, study_file
from sweepd.errors import SpecError, UsageError

TEXT = """\
name: digits
task: {objective: train.py:objective}
objectives: [{metric: acc, direction: maximize}]
space: {optim.lr: {type: float, low: 1e-5, high: 1e-2, log: true}}
budget: {trials: 10}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "study.yaml").write_text(TEXT)
    (tmp_path / "train.py").touch()
    (tmp_path / "sub" / "bin").mkdir(parents=True)
    (tmp_path / "sub" / "train.py").touch()
    (tmp_path / "sub" / "bin" / "python").symlink_to("/usr/bin/env")
    return tmp_path


def rewrite(folder: Path, task: str) -> Path:
    file = folder / "study.yaml"
    file.write_text(TEXT.replace("{objective: train.py:objective}", task))
    return file


def test_a_file_is_ready_to_be_submitted(folder: Path) -> None:
    study = study_file.load(folder / "study.yaml")
    assert study.task.workdir == str(folder)
    assert study.sampler.seed is not None
    assert study.sampler.seed_drawn
    assert spec.parse(spec.to_builtins(study)) == study


def test_a_mapping_is_settled_like_a_file(folder: Path) -> None:
    data: dict[str, object] = {
        "name": "digits",
        "task": {"objective": "train.py:objective", "workdir": "sub"},
        "objectives": [{"metric": "acc", "direction": "maximize"}],
        "budget": {"trials": 10},
    }
    study = study_file.from_mapping(data, folder=folder)
    assert study.task.workdir == str(folder / "sub")
    assert study.sampler.seed_drawn
    with pytest.raises(SpecError, match=r"task.objective: there is no file"):
        study_file.from_mapping(data | {"task": {"objective": "nope.py:objective"}}, folder=folder)


def test_a_relative_file_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "sub")
    assert study_file.load("../study.yaml").task.workdir == str(folder)


def test_loading_twice_is_no_edit(folder: Path) -> None:
    old, new = (study_file.load(folder / "study.yaml") for _ in range(2))
    assert old.sampler.seed != new.sampler.seed
    compared = spec.difference(old, new)
    assert (compared.editable, compared.lines, compared.spec) == (True, [], old)


def test_a_seed_that_is_written_stays(folder: Path) -> None:
    study = study_file.load(folder / "study.yaml", overrides={"sampler.seed": 0})
    assert (study.sampler.seed, study.sampler.seed_drawn) == (0, False)


def test_overrides(folder: Path) -> None:
    study = study_file.load(
        folder / "study.yaml",
        overrides={
            "budget.trials": 3,
            "executor": {"type": "process"},
            "space.optim.lr.low": 1e-4,
            "space.optim.lr.log": None,
            "limits.time": "1h",
        },
    )
    assert study.budget.trials == 3
    assert study.executor.type == "process"
    parameter = spec.to_builtins(study)["space"]["optim.lr"]
    assert parameter == {"type": "float", "low": 1e-4, "high": 1e-2}
    assert study.limits.time_s == 3600


def test_wrong_overrides(folder: Path) -> None:
    with pytest.raises(SpecError, match=r"study\.yaml: 1 error\n  budget\.trials: is 0"):
        study_file.load(folder / "study.yaml", overrides={"budget.trials": 0})
    with pytest.raises(UsageError, match=r"^name\.x\.y cannot be set: name is no mapping$"):
        study_file.load(folder / "study.yaml", overrides={"name.x.y": 0})
    (folder / "study.yaml").write_text("[]")
    with pytest.raises(UsageError, match=r"^name cannot be set: the study is no mapping$"):
        study_file.load(folder / "study.yaml", overrides={"name": "a"})


def test_paths_are_relative_to_file_and_workdir(folder: Path) -> None:
    task = study_file.load(
        rewrite(folder, "{objective: train.py:f, workdir: sub/../sub, python: bin/python}")
    ).task
    assert task.workdir == str(folder / "sub")
    assert task.python == str(folder / "sub" / "bin" / "python")  # not what the link leads to
    assert task.objective == "train.py:f"


def test_absolute_paths_may_exist_only_where_agents_run(folder: Path) -> None:
    elsewhere = "{objective: train.py:f, workdir: /no/such/place, python: env/bin/python}"
    task = study_file.load(rewrite(folder, elsewhere)).task
    assert (task.workdir, task.python) == ("/no/such/place", "/no/such/place/env/bin/python")
    task = study_file.load(rewrite(folder, "{nemo: /no/such/r.py:f, python: /no/such/python}")).task
    assert (task.nemo, task.python) == ("/no/such/r.py:f", "/no/such/python")


def test_the_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder / "sub"))
    task = study_file.load(
        rewrite(folder, "{objective: train.py:f, workdir: '~', python: ~/bin/python}")
    ).task
    assert (task.workdir, task.python) == (str(folder / "sub"), str(folder / "sub/bin/python"))


def test_what_is_found_on_the_path_or_by_its_module_is_left_alone(folder: Path) -> None:
    task = study_file.load(rewrite(folder, "{objective: pkg.train:f, python: python3.12}")).task
    assert (task.objective, task.python) == ("pkg.train:f", "python3.12")


@pytest.mark.parametrize(
    ("task", "problems"),
    [
        (
            "{objective: trian.py:f, python: bin/python}",
            [
                "task.python: there is no file {folder}/bin/python; write a path relative to workdir",
                "task.objective: there is no file {folder}/trian.py; write a path relative to workdir",
            ],
        ),
        (
            "{nemo: sub/recipe.py:f}",
            ["task.nemo: there is no file {folder}/sub/recipe.py; write a path relative to workdir"],
        ),
        (
            "{objective: train.py:f, workdir: sbu}",
            ["task.workdir: is sbu, and there is no folder {folder}/sbu; make it or write another"],
        ),
    ],
)
def test_missing_files(folder: Path, task: str, problems: list[str]) -> None:
    file = rewrite(folder, task)
    with pytest.raises(SpecError) as caught:
        study_file.load(file)
    assert caught.value.problems == [problem.format(folder=folder) for problem in problems]
    assert caught.value.source == str(file)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.yaml: no such file or directory; name a study file"):
        study_file.load(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="is a directory; name a study file"):
        study_file.load(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("name: é".encode("latin-1"))
    with pytest.raises(UsageError, match=r"latin\.yaml: byte 6 is not UTF-8; save the file as UTF-8 text"):
        study_file.load(tmp_path / "latin.yaml")
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(SpecError, match=r"broken\.yaml: 1 error\n  line 1, column 5"):
        study_file.load(tmp_path / "broken.yaml")


def test_a_byte_order_mark_is_no_part_of_the_text(folder: Path) -> None:
    (folder / "study.yaml").write_text("\ufeff" + TEXT, encoding="utf-8")
    assert study_file.load(folder / "study.yaml").name == "digits"


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("train.py:objective", "train"),
        ("sub/train.py:objective", "train"),
        ("pkg.train:objective", "train"),
        ("/no/such/my model (2).py:f", "my-model-2"),
        ("/no/such/_.py:f", "study"),
    ],
)
def test_a_bare_objective(folder: Path, target: str, name: str) -> None:
    study = study_file.for_objective(target, "maximize", 30, folder=folder)
    assert study.name == name
    assert study.task.objective == target
    assert study.task.workdir == str(folder)
    assert (study.space, study.budget.trials) == ({}, 30)
    assert (study.objectives[0].metric, study.directions) == ("value", ("maximize",))
    assert study.sampler.seed_drawn


def test_a_bare_objective_is_looked_for_in_the_current_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    study = study_file.for_objective(
        "train.py:f", "minimize", 1, overrides={"name": "mine", "sampler.seed": 3}
    )
    assert (study.name, study.task.workdir, study.sampler.seed) == ("mine", str(folder), 3)


def test_a_wrong_bare_objective(folder: Path) -> None:
    with pytest.raises(SpecError) as caught:
        study_file.for_objective("train.py", "up", 0, folder=folder)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "task.objective",
        "objectives[0].direction",
        "budget.trials",
    ]
    with pytest.raises(SpecError, match=r"task\.objective: there is no file .*trian\.py"):
        study_file.for_objective("trian.py:f", "minimize", 1, folder=folder)
