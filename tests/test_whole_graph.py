"""The whole graph on the smoke recipe, as a user runs it: real crawl, Spark, Delta, Ray, MLflow."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
TARN = Path(sys.executable).with_name("tarn")


def tarn(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("TARN_", "DAGSTER", "MLFLOW"))}
    env |= {"TARN_HOME": str(home), "COLUMNS": "200", "TRITON_INTERPRET": "0"}
    return subprocess.run([TARN, *arguments], env=env, cwd=TOP, capture_output=True, text=True)


def states(output: str) -> dict[str, str]:
    """State of each asset in the table that a run ends with."""
    return dict(re.findall(r"^([a-z/_]+) +(computed|fresh|missing)\b", output, re.MULTILINE))


def computed(output: str) -> set[str]:
    return {key for key, state in states(output).items() if state == "computed"}


def value(home: Path, key: str, name: str) -> object:
    """A figure of an asset's last materialization, read as the UI reads it."""
    import dagster as dg

    from orchestration import freshness

    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        made = freshness.last(instance, key)
        assert made is not None, key
        return made.value(name)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation in which the smoke recipe ran once."""
    home = tmp_path_factory.mktemp("home")
    done = tarn(home, "run", "--recipe", "smoke")
    assert done.returncode == 0, done.stdout + done.stderr
    (home / "first.txt").write_text(done.stdout)
    (home / "first.err").write_text(done.stderr)
    return home


def test_every_asset_is_made_and_the_terminal_shows_nothing_else(home: Path) -> None:
    from orchestration.definitions import STEPS

    output = (home / "first.txt").read_text()
    assert states(output) == {step.key: "computed" for step in STEPS}
    assert (home / "first.err").read_text() == ""
    for noise in ("WARN", "Warning", "log4j", "ray.init", "Deprecat", "Traceback"):
        assert noise not in output


def test_the_pages_named_at_the_end_exist_and_need_no_network(home: Path) -> None:
    output = (home / "first.txt").read_text()
    pages = re.findall(r"^(?:data_card|leaderboard|model_card) +(\S+)$", output, re.MULTILINE)
    assert len(pages) == 3
    for page in pages:
        assert not re.search(r"(src|href)=[\"']https?://[^\"']+\.(js|css)", Path(page).read_text())


def test_a_second_run_finds_everything_fresh(home: Path) -> None:
    done = tarn(home, "run", "--recipe", "smoke")
    assert set(states(done.stdout).values()) == {"fresh"}
    assert "everything is fresh" in done.stdout


def test_numbers_stand_in_mlflow_with_the_versions_that_they_came_from(home: Path) -> None:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{home}/mlflow/mlflow.db")
    runs = {
        run.data.tags["mlflow.runName"]: run
        for experiment in client.search_experiments()
        for run in client.search_runs([experiment.experiment_id])
    }
    base = runs["base_model"]
    assert base.info.status == "FINISHED"
    assert base.data.metrics["bits_per_byte"] == pytest.approx(
        float(str(value(home, "base_model", "bits_per_byte"))), abs=1e-4
    )
    [tokens] = [i for i in base.inputs.dataset_inputs if i.dataset.name.startswith("tokens")][:1]
    source = json.loads(tokens.dataset.source)
    assert source.get("delta_table_version", 0) == value(home, "tokens", "tarn/version")
    assert base.data.tags["dagster/run_id"]
    assert any("low" in name for name in runs["base_evaluation"].data.metrics)


def test_every_phase_is_a_run_with_its_tables_and_the_model_that_it_starts_from(home: Path) -> None:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{home}/mlflow/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "tarn"]
    runs = {
        run.data.tags["mlflow.runName"]: run
        for run in client.search_runs([experiment.experiment_id])
    }
    parents = {
        "sft_model": "base_model",
        "dpo_model": "sft_model",
        "reward_model": "sft_model",
        "chat_model": "dpo_model",
        "sft_evaluation": "sft_model",
    }
    for name, parent in parents.items():
        run = runs[name]
        assert run.info.status == "FINISHED", name
        assert run.data.tags["parent_model"] == value(home, parent, "tarn/version")
        read_models = client.get_run(run.info.run_id).inputs.model_inputs
        assert [client.get_logged_model(i.model_id).name for i in read_models] == [parent]
        read = {i.dataset.name for i in run.inputs.dataset_inputs}
        assert read & {"instructions", "preferences"}, name
        if name.endswith("_model"):
            assert len(client.get_metric_history(run.info.run_id, "loss")) > 0, name
    for name in ("dpo_model control", "chat_model control"):
        assert runs[name].info.status == "FINISHED"
    assert {"reward", "live_groups", "entropy"} <= runs["chat_model"].data.metrics.keys()


def test_a_rollout_names_the_weights_that_made_it_and_its_item(home: Path) -> None:
    from datalake.tables import Lake

    lake = Lake(str(home / "lake"))
    rollouts = lake.read("rollouts").to_pylist()
    items = {row["item_id"]: row for row in lake.read("instructions").to_pylist()}
    assert {items[row["item_id"]]["split"] for row in rollouts} == {"rl"}
    assert all(len(row["log_probs"]) == len(row["completion_ids"]) for row in rollouts)
    first = {row["policy"] for row in rollouts if row["step"] == 0}
    dpo = json.loads(
        (Path(str(value(home, "dpo_model", "tarn/version"))) / "manifest.json").read_text()
    )
    assert first == {dpo["weights"]}
    # Weights move from the first step on in which the answers to some prompt differ in reward.
    policies, groups = dict[int, str](), dict[tuple[int, str], set[float]]()
    for row in rollouts:
        assert policies.setdefault(row["step"], row["policy"]) == row["policy"]
        groups.setdefault((row["step"], row["group"]), set()).add(row["reward"])
    taught = [step for (step, _), rewards in groups.items() if len(rewards) > 1]
    for step in sorted(policies)[1:]:
        has_moved = policies[step] != policies[step - 1]
        assert has_moved == any(earlier < step for earlier in taught), step


@pytest.mark.parametrize("model", ["chat", "dpo", "sft", "base"])
def test_one_can_talk_to_every_model_right_after_the_run(home: Path, model: str) -> None:
    done = tarn(home, "chat", "--model", model, "--once", "Sort these numbers: 3 1 2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_leaderboard_shows_every_phase_and_what_each_is_worth(home: Path) -> None:
    (page,) = re.findall(r"^leaderboard +(\S+)$", (home / "first.txt").read_text(), re.MULTILINE)
    text = Path(page).read_text()
    for name in ("smoke base", "smoke sft", "smoke dpo", "smoke chat"):
        assert name in text
    assert "no significant gain" in text or "points [" in text


def test_another_rule_pairs_the_same_answers_anew(home: Path) -> None:
    recipe = home / "other-rule.yaml"
    recipe.write_text(
        "extends: smoke\nname: smoke\nalignment: {preferences: {rule: {held_out_fraction: 0.4}}}"
    )
    done = tarn(home, "run", "--recipe", str(recipe), "--select", "+key:preferences")
    assert done.returncode == 0, done.stdout
    assert computed(done.stdout) == {"preferences"}
    assert "answers [" not in done.stdout


@pytest.mark.slow
def test_pairs_made_anew_recompute_what_learns_from_them(home: Path) -> None:
    done = tarn(home, "run", "--recipe", str(home / "other-rule.yaml"))
    assert done.returncode == 0, done.stdout
    assert computed(done.stdout) == {
        *("dpo_model", "reward_model", "chat_model"),
        *("chat_evaluation", "leaderboard", "model_card"),
    }
    chat = Path(str(value(home, "chat_model", "tarn/version"))) / "manifest.json"
    dpo = value(home, "dpo_model", "tarn/version")
    assert json.loads(chat.read_text())["about"]["parent"] == dpo  # the new one, not its namesake


def test_the_table_of_rows_names_documents_that_lead_back_to_their_bytes(home: Path) -> None:
    from datalake.provenance import read_again
    from datalake.tables import Lake

    lake = Lake(str(home / "lake"))
    rows = lake.read("tokens", columns=["doc_ids"], where={"split": "validation"})
    identity = rows["doc_ids"][0].as_py()[0]
    [document] = [r for r in lake.read("corpus").to_pylist() if r["doc_id"] == identity]
    raw = lake.read(f"raw/{document['source']}", where={"doc_id": identity}).to_pylist()[0]
    assert read_again(raw) == raw["payload"]


def test_every_source_is_listed_with_what_it_holds(home: Path) -> None:
    done = tarn(home, "sources", "--recipe", "smoke")
    lines = done.stdout.splitlines()[1:]
    rows = {
        row.split()[0]: (row.split(), more)
        for row, more in zip(lines[::2], lines[1::2], strict=True)
    }
    assert done.returncode == 0
    assert list(rows) == ["pydoc", "packages", "handbook", "paper", "glossary"]
    row, licences = rows["pydoc"]
    assert row[1] == "pydoc" and row[3] == "80" and licences == "  raw/web: PSF-2.0 80"
    assert "never" not in done.stdout


def test_a_document_is_traced_to_its_bytes(home: Path) -> None:
    shown = tarn(home, "trace", "pkg:pypi/rich#rich/align.py")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    for said in ("raw/code, snapshot", "sha1:", "licence_evidence", "corpus", "read again: "):
        assert said in shown.stdout, said
    raw = tarn(home, "trace", "pkg:pypi/rich#rich/align.py", "--raw")
    import rich.align

    assert raw.stdout == Path(rich.align.__file__).read_text()
    missing = tarn(home, "trace", "nobody")
    assert missing.returncode == 2 and missing.stdout.startswith("refused document must be the id")


FROM_KEPT = {"kept", "duplicates", "contamination", "cuts", "corpus", "tokenizer", "tokens"}


def test_a_changed_threshold_recomputes_from_kept_on_and_not_the_crawl(home: Path) -> None:
    recipe = home / "stricter.yaml"
    rules = "[starcoder2, {name: few_letters, signal: alphabetic_fraction, at_least: 0.6}]"
    recipe.write_text(
        f"extends: smoke\nname: smoke\ndatalake: {{kept: {{rules: {{code: {rules}}}}}}}"
    )
    done = tarn(home, "run", "--recipe", str(recipe), "--select", "+key:tokens")
    made = states(done.stdout)
    assert done.returncode == 0, done.stdout
    assert computed(done.stdout) == FROM_KEPT
    raw = {"raw/web", "raw/code", "raw/pdf", "raw/directories", "raw/tables"}
    before = raw | {"instructions", "documents", "scorers", "signals"}
    assert {made[key] for key in before} == {"fresh"}


@pytest.mark.slow
def test_changed_tokens_recompute_every_model_and_figure(home: Path) -> None:
    from orchestration.definitions import STEPS

    done = tarn(home, "run", "--recipe", str(home / "stricter.yaml"))
    assert done.returncode == 0, done.stdout
    raw = {"raw/web", "raw/code", "raw/pdf", "raw/directories", "raw/tables"}
    kept = {*raw, "instructions", "documents", "scorers", "signals"} | FROM_KEPT
    assert computed(done.stdout) == {step.key for step in STEPS} - kept


def test_a_changed_rule_without_effect_stops_where_nothing_changed(home: Path) -> None:
    recipe = home / "without-effect.yaml"
    recipe.write_text(
        f"extends: {home / 'stricter.yaml'}\nname: smoke\ndatalake: {{kept: {{rules: {{web: "
        "[gopher_quality, {name: too_many_words, signal: num_words, at_most: 99999999}]}}}"
    )
    done = tarn(home, "run", "--recipe", str(recipe), "--select", "+key:tokens")
    assert computed(done.stdout) == {"kept"}, done.stdout


def test_rules_that_drop_everything_fail_their_asset_alone(home: Path, tmp_path: Path) -> None:
    copy = tmp_path / "home"
    shutil.copytree(home, copy, ignore=shutil.ignore_patterns("ray", "spark"))
    recipe = tmp_path / "nothing.yaml"
    nothing = "[{name: nothing_is_long_enough, signal: num_words, at_least: 1e12}]"
    sources = ("web", "code", "pdf", "directories", "tables")
    rules = ", ".join(f"{source}: {nothing}" for source in sources)
    recipe.write_text(f"extends: smoke\nname: smoke\ndatalake: {{kept: {{rules: {{{rules}}}}}}}")
    done = tarn(copy, "run", "--recipe", str(recipe))
    assert done.returncode == 1
    assert re.search(
        r"failed duplicates: datalake.kept.rules must keep at least one document, got none: "
        r"nothing_is_long_enough dropped \d+",
        done.stdout,
    )
    assert Path(str(value(copy, "base_model", "tarn/version"))).is_dir()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "smoked"], "recipe must be one of .*, got smoked; did you mean smoke?"),
        (["--recipe", "smoke", "--select", "key:nothing"], "--select must name an asset"),
    ],
)
def test_a_wrong_call_is_refused_in_one_line(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = tarn(tmp_path, "run", *arguments)
    assert done.returncode == 2
    assert re.fullmatch(rf"refused .*{message}.*\n", done.stdout), done.stdout


def test_the_doctor_finds_this_machine_fit(home: Path) -> None:
    done = tarn(home, "doctor")
    assert done.returncode == 0, done.stdout
    assert "Java" in done.stdout
