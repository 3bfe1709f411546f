"""`recheck` accepts the proofs of a model, and nothing that was changed, is for another model, or covers less than it
claims."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelcheck.engines.analyse import Analysis, Limits
from modelcheck.evidence.certify import script
from modelcheck.evidence.conditions import Impossible, Pool, conditions, start_conditions
from modelcheck.evidence.manifest import digest
from modelcheck.evidence.recheck import ask, recheck
from modelcheck.lower import lower
from modelcheck.pipeline import Options, load, verify
from modelcheck.verdict import Property

MODEL = """driver sound;
import wdm;
lock A : KSPIN_LOCK;
var busy : bool = false;
routine AddDevice() as DRIVER_ADD_DEVICE { KeInitializeSpinLock(&A); }
routine Read(Irp) as DRIVER_DISPATCH {
    KIRQL old;
    bool got = false;
    if (*) { KeAcquireSpinLock(&A, &old); got = true; }
    busy = got;
    if (got) { KeReleaseSpinLock(&A, old); }
}
"""
WIDE = """driver wide;
import wdm;
lock A : KSPIN_LOCK initialised;
routine Read(Irp) as DRIVER_DISPATCH {
    KIRQL old;
    int 0..1000000 size = *;
    if (size > 5) { KeAcquireSpinLock(&A, &old); }
    if (size > 5) { KeReleaseSpinLock(&A, old); }
}
"""
THREE = range(3)
LEVELS = f"""driver levels;
import wdm;
{"".join(f"lock L{n} : KSPIN_LOCK initialised; " for n in THREE)}
routine Read(Irp) as DRIVER_DISPATCH {{
    {"".join(f"KIRQL old{n}; bool flag{n} = *; " for n in THREE)}
    while (*) {{
        {"".join(f"if (flag{n}) {{ KeAcquireSpinLock(&L{n}, &old{n}); }} " for n in THREE)}
        {"".join(f"if (flag{n}) {{ KeReleaseSpinLock(&L{n}, old{n}); }} " for n in reversed(THREE))}
    }}
}}
routine Write(Irp) as DRIVER_DISPATCH {{ KIRQL old; KeAcquireSpinLock(&L0, &old); KeReleaseSpinLock(&L0, old); }}
"""
"""The levels that are saved with so many locks have more mixtures than a table has room for, if that is `LITTLE`."""
LITTLE = 40
TWO = """driver two;
import wdm;
lock A : KSPIN_LOCK initialised;
lock B : KSPIN_LOCK initialised;
var rising : bool = true;
data Count;
routine AddDevice() as DRIVER_ADD_DEVICE { rising = *; }
routine Read(Irp) as DRIVER_DISPATCH {
    KIRQL old;
    if (rising) {
        KeAcquireSpinLock(&A, &old);
        KeAcquireSpinLockAtDpcLevel(&B);
        write Count;
        KeReleaseSpinLockFromDpcLevel(&B);
        KeReleaseSpinLock(&A, old);
    }
}
routine OnDpc() as KDEFERRED_ROUTINE {
    if (!rising) {
        KeAcquireSpinLockAtDpcLevel(&B);
        KeAcquireSpinLockAtDpcLevel(&A);
        write Count;
        KeReleaseSpinLockFromDpcLevel(&A);
        KeReleaseSpinLockFromDpcLevel(&B);
    }
}
"""
"""Two orders that never meet, which only exact states show."""
CROSSED = TWO.replace("if (rising)", "if (*)")
RANKED = TWO.replace("(!rising)", "(*)").replace("AtDpcLevel(&B);\n        KeAcquire", "AtDpcLevel(&B);\n        //")
RANKED = RANKED.replace("        KeReleaseSpinLockFromDpcLevel(&A);\n", "").replace("        write Count;\n", "")
"""One order: ranks alone suffice."""
BROKEN = MODEL.replace("if (got) { KeReleaseSpinLock(&A, old); }", "")


def prove(folder: Path, text: str) -> Path:
    """A folder with the proofs of a model, which stands beside it."""
    model = folder / "model.drvm"
    model.write_text(text, encoding="utf-8")
    certificate = verify(model, Options(certificate=True)).certificate
    assert certificate is not None
    proofs = folder / "proofs"
    proofs.mkdir()
    (proofs / "model.smt2").write_text(certificate.smt, encoding="utf-8")
    (proofs / "model.json").write_text(certificate.manifest, encoding="utf-8")
    return proofs


def change(proofs: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Edits the manifest of a proof."""
    path = proofs / "model.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def forge(proofs: Path, patch: pytest.MonkeyPatch) -> str:
    """What recheck says of a manifest when the script is made to fit it; only the queries themselves can still fail."""
    made: list[str] = []

    def kept(pool: Pool) -> str:
        made.append(script(pool))
        return made[-1]

    patch.setattr("modelcheck.evidence.recheck.script", kept)
    problem = recheck(proofs)[0].problem
    if made:
        (proofs / "model.smt2").write_text(made[0], encoding="utf-8")
        change(proofs, lambda content: content.update(script_sha256=digest(made[0])))
        problem = recheck(proofs)[0].problem
    return problem


@pytest.mark.parametrize(
    "text",
    [MODEL, WIDE, BROKEN, TWO, CROSSED, RANKED],
    ids=["tables", "formulas", "with a violation", "several contexts", "with a deadlock", "ranks"],
)
def test_what_was_proved_holds_in_another_solver(text: str, tmp_path: Path) -> None:
    """Every query of a fresh certificate is unsat in cvc5."""
    (result,) = recheck(prove(tmp_path, text))
    assert result.problem == ""
    assert result.proved > 0
    assert result.queries > 0


def test_levels_are_followed_as_they_are_asked_for_where_all_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the routine where they are; the other one's are all followed."""
    monkeypatch.setattr("modelcheck.engines.fixpoint.MAX_KEYS", LITTLE)
    path = tmp_path / "model.drvm"
    path.write_text(LEVELS, encoding="utf-8")
    lowered = lower(load(path)[0])
    analysis = Analysis(lowered, Limits())
    analysis.run()
    made = {root.routine: [i.loose for i in analysis.invariants if root in i.roots] for root in lowered.roots}
    assert made["Read"]
    assert all(made["Read"])
    assert made["Write"] == [False]


def loosened(content: dict[str, Any]) -> None:
    """Says the contrary of each invariant: that it follows all saved levels, or only some."""
    for entry in content["invariants"]:
        entry["loose"] = not entry["loose"]


def test_an_invariant_that_says_nothing_of_levels_is_no_proof_if_it_claims_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its states are packed otherwise than the claim has them."""
    monkeypatch.setattr("modelcheck.engines.fixpoint.MAX_KEYS", LITTLE)
    proofs = prove(tmp_path, LEVELS)
    assert recheck(proofs)[0].problem == ""
    change(proofs, loosened)
    assert forge(proofs, monkeypatch)


def test_a_changed_script_is_refused(tmp_path: Path) -> None:
    """Also when the change leaves every query unsat."""
    proofs = prove(tmp_path, MODEL)
    script = proofs / "model.smt2"
    script.write_text(script.read_text(encoding="utf-8") + "; harmless\n", encoding="utf-8")
    assert "changed" in recheck(proofs)[0].problem


def test_a_script_with_fewer_queries_is_refused_though_its_hash_fits(tmp_path: Path) -> None:
    """The queries are made again from the model; leaving one out shows."""
    proofs = prove(tmp_path, MODEL)
    script = proofs / "model.smt2"
    text = script.read_text(encoding="utf-8")
    shorter = text[: text.index("; query 3")]
    script.write_text(shorter, encoding="utf-8")
    change(proofs, lambda content: content.update(script_sha256=digest(shorter)))
    assert "not the one" in recheck(proofs)[0].problem


def test_another_model_is_refused(tmp_path: Path) -> None:
    """The model may not change after it was proved, not even where no obligation depends on it."""
    proofs = prove(tmp_path, MODEL)
    (tmp_path / "model.drvm").write_text(MODEL + "// later\n", encoding="utf-8")
    assert "another version" in recheck(proofs)[0].problem


def test_an_obligation_that_the_report_leaves_out_is_missed(tmp_path: Path) -> None:
    """The list of obligations comes from the model."""
    proofs = prove(tmp_path, MODEL)
    change(proofs, lambda content: content["obligations"].pop())
    assert "leaves out" in recheck(proofs)[0].problem


def test_a_claim_without_a_proof_is_refused(tmp_path: Path) -> None:
    """What is violated cannot be called proved."""

    def claim(content: dict[str, Any]) -> None:
        for entry in content["obligations"]:
            entry["verdict"] = "proved"

    proofs = prove(tmp_path, BROKEN)
    change(proofs, claim)
    assert "no invariant covers it" in recheck(proofs)[0].problem


def test_an_invariant_that_claims_more_is_refused(tmp_path: Path) -> None:
    """Adding an obligation to an invariant calls for queries that the script does not have."""

    def claim(content: dict[str, Any]) -> None:
        every = range(len(content["obligations"]))
        for invariant in content["invariants"]:
            invariant["obligations"] = sorted({*invariant["obligations"], *every})
        for entry in content["obligations"]:
            entry["verdict"] = "proved"

    proofs = prove(tmp_path, BROKEN)
    change(proofs, claim)
    assert recheck(proofs)[0].problem != ""


def test_a_narrower_table_is_refused(tmp_path: Path) -> None:
    """A state taken out of an invariant changes the queries."""

    def narrow(content: dict[str, Any]) -> None:
        for table in content["invariants"][-1]["tables"]:
            for states in table["states"]:
                del states[1:]

    proofs = prove(tmp_path, MODEL)
    change(proofs, narrow)
    assert recheck(proofs)[0].problem != ""


@pytest.mark.parametrize("name", ["model.smt2", "model.json"])
def test_half_a_certificate_is_refused(name: str, tmp_path: Path) -> None:
    """A script without its manifest, a manifest without its script."""
    proofs = prove(tmp_path, MODEL)
    (proofs / name).unlink()
    assert "missing" in recheck(proofs)[0].problem


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 1}', "\x00", '{"format": 1, "script_sha256": 7}'])
def test_a_damaged_manifest_is_refused(content: str, tmp_path: Path) -> None:
    """Whatever stands in it."""
    proofs = prove(tmp_path, MODEL)
    (proofs / "model.json").write_text(content, encoding="utf-8")
    assert recheck(proofs)[0].problem != ""


def test_a_formula_cannot_smuggle_commands(tmp_path: Path) -> None:
    """A formula that closes its assertion and adds another is not one term."""

    def smuggle(content: dict[str, Any]) -> None:
        content["formulas"][0]["parts"][0][1][0] = "true) (assert false"

    proofs = prove(tmp_path, WIDE)
    change(proofs, smuggle)
    assert recheck(proofs)[0].problem != ""


def test_a_query_that_can_be_satisfied_is_named() -> None:
    """cvc5's answer is read, not assumed."""
    script = "(set-logic ALL)\n(push 1)\n(assert false)\n(check-sat)\n(pop 1)\n(push 1)\n(check-sat)\n(pop 1)\n"
    solver, wrong = ask(script)
    assert solver.startswith("cvc5")
    assert wrong == 1


def test_a_query_that_is_never_answered_is_not_unsat() -> None:
    """A query hidden in a comment is counted, and missed among the answers."""
    script = "(set-logic ALL)\n(assert false)\n(check-sat)\n; (check-sat)\n"
    assert ask(script)[1] == 1


def test_an_invariant_about_an_obligation_that_no_root_meets_is_refused(tmp_path: Path) -> None:
    """No queries at all are no proof."""
    path = tmp_path / "model.drvm"
    path.write_text(MODEL, encoding="utf-8")
    lowered = lower(load(path)[0])
    nowhere = lowered.ledger.number(Property.C01, "Nobody", lowered.roots[0].graph.span, "", "never lowered")
    analysis = Analysis(lowered, Limits())
    analysis.run()
    assert nowhere not in analysis.decisions
    analysis.invariants[-1].obligations |= {nowhere}
    pool = Pool()
    conditions(analysis.invariants[-1], 0, lowered.roots, pool)
    assert any(isinstance(query, Impossible) for query in pool.queries)


# ---- what several contexts can break ----


def test_a_fitting_script_can_be_forged_for_what_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what is refused below is refused for what it claims."""
    assert forge(prove(tmp_path, TWO), monkeypatch) == ""


def test_a_deadlock_cannot_be_claimed_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with a script that fits the claim either."""

    def claim(content: dict[str, Any]) -> None:
        for entry in content["obligations"]:
            entry["verdict"] = "proved"

    proofs = prove(tmp_path, CROSSED)
    change(proofs, claim)
    assert "unsatisfiable" in forge(proofs, monkeypatch)


def test_proofs_about_several_contexts_need_their_grounds(tmp_path: Path) -> None:
    """Without positions, order and cycles nothing is proved of them."""
    proofs = prove(tmp_path, RANKED)
    change(proofs, lambda content: content.pop("meetings"))
    assert "nothing proves" in recheck(proofs)[0].problem


def _first_arrivals(meetings: dict[str, Any]) -> Any:
    return next(case for case in meetings["arrivals"] if case)


def _no_arrivals(meetings: dict[str, Any]) -> None:
    _first_arrivals(meetings).clear()


def _free_on_arrival(meetings: dict[str, Any]) -> None:
    """What may be held there is called free."""
    for case in meetings["arrivals"]:
        for _, values in case:
            for number, allowed in enumerate(values):
                if allowed is not None and len(allowed) == 1 and allowed[0] > 1:
                    values[number] = [0]


def _one_arrival_more(meetings: dict[str, Any]) -> None:
    meetings["arrivals"].append(_first_arrivals(meetings))


def _one_case_less(meetings: dict[str, Any]) -> None:
    meetings["arrivals"].pop()


def _another_base(meetings: dict[str, Any]) -> None:
    meetings["base"] = [number + 1 for number in meetings["base"]]


def _no_base(meetings: dict[str, Any]) -> None:
    del meetings["base"]


def _never_met(meetings: dict[str, Any]) -> None:
    """States that a run comes to are called unreachable."""
    for asked in meetings["rounds"]:
        assert not all(asked["never"])
        asked["never"] = [True] * len(asked["never"])


def _may_be_met(meetings: dict[str, Any]) -> None:
    for asked in meetings["rounds"]:
        asked["never"] = [False] * len(asked["never"])


def _no_invariants(meetings: dict[str, Any]) -> None:
    for asked in meetings["rounds"]:
        asked["invariants"] = []


def _another_question(meetings: dict[str, Any]) -> None:
    """The invariant is asked to show another state than it was made for."""
    for asked in meetings["rounds"]:
        for question in asked["questions"]:
            for test in question["tests"]:
                if test[0][-1].startswith("var "):
                    test[1] = 1 - test[1]


def _no_questions(meetings: dict[str, Any]) -> None:
    meetings["rounds"] = []


def _roughly(meetings: dict[str, Any]) -> None:
    """The cycle is said to be impossible without telling states apart."""
    assert meetings["splits"]
    meetings["splits"] = []


def _strictly(meetings: dict[str, Any]) -> None:
    meetings["strict"] = True


@pytest.mark.parametrize(
    "edit",
    [
        _no_arrivals,
        _free_on_arrival,
        _one_arrival_more,
        _one_case_less,
        _another_base,
        _no_base,
        _never_met,
        _may_be_met,
        _no_invariants,
        _another_question,
        _no_questions,
        _roughly,
        _strictly,
    ],
    ids=lambda edit: edit.__name__.strip("_"),
)
def test_changed_grounds_are_refused(
    edit: Callable[[dict[str, Any]], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is changed in what the proofs about several contexts rest on, with a script that fits it."""
    proofs = prove(tmp_path, TWO)
    change(proofs, lambda content: edit(content["meetings"]))
    assert forge(proofs, monkeypatch) != ""


UNTIMED = """driver untimed;
import wdm;
lock A : KSPIN_LOCK initialised;
extern Compute();
routine Read(Irp) as DRIVER_DISPATCH {
    KIRQL old;
    KeAcquireSpinLock(&A, &old);
    cost 1us;
    Compute();
    KeReleaseSpinLock(&A, old);
}
"""


def test_a_time_that_is_not_known_cannot_be_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes no time that a model knows may take any."""
    proofs = prove(tmp_path, UNTIMED)

    def claim(content: dict[str, Any]) -> None:
        (entry,) = (entry for entry in content["obligations"] if entry["code"] == "T01")
        assert entry["verdict"] == "unknown"
        entry["verdict"] = "proved"

    change(proofs, claim)
    assert "not all costs are known" in forge(proofs, monkeypatch)


LIVES = """driver lives;
import wdm;
lock A : KSPIN_LOCK;
lock B : KSPIN_LOCK initialised;
routine AddDevice() as DRIVER_ADD_DEVICE { if (*) { KeInitializeSpinLock(&A); } }
routine Read(Irp) as DRIVER_DISPATCH {
    KIRQL old;
    KeAcquireSpinLock(&B, &old);
    KeReleaseSpinLock(&B, old);
}
"""


def test_lives_that_no_invariant_may_leave_out(tmp_path: Path) -> None:
    """An invariant whose states are used starts from all lives that earlier phases leave, also where it proves no
    obligation itself."""
    path = tmp_path / "lives.drvm"
    path.write_text(LIVES, encoding="utf-8")
    lowered = lower(load(path)[0])
    analysis = Analysis(lowered, Limits())
    analysis.run()
    assert analysis.base is not None
    base = analysis.base[max(lowered.roots, key=lambda root: root.phase)]
    pool = Pool()
    start_conditions([replace(base, obligations=frozenset())], analysis.invariants, lowered.roots, pool)
    assert not pool.queries
    lives = {root: {name: values[:1] for name, values in given.items()} for root, given in base.lives.items()}
    assert lives != base.lives
    start_conditions([replace(base, obligations=frozenset(), lives=lives)], analysis.invariants, lowered.roots, pool)
    assert pool.queries
    assert all(isinstance(query, Impossible) for query in pool.queries)


@pytest.mark.parametrize("narrow", [False, True])
def test_those_who_are_asked_about_start_from_all_lives(
    narrow: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What answers a question cannot leave out lives that earlier phases leave, with a script that fits it."""
    started = "{ rising = *; if (rising) { KeInitializeSpinLock(&C); } }"
    text = TWO.replace("{ rising = *; }", started).replace("data Count;", "data Count;\nlock C : KSPIN_LOCK;")
    proofs = prove(tmp_path, text)

    def start(content: dict[str, Any]) -> None:
        rounds = content["meetings"]["rounds"]
        given = [lives for asked in rounds for made in asked["invariants"] for _, lives in made["lives"]]
        assert any(len(values) > 1 for lives in given for values in lives.values())
        for lives in given if narrow else ():
            lives.update({name: values[:1] for name, values in lives.items()})

    change(proofs, start)
    assert bool(forge(proofs, monkeypatch)) is narrow


WAITING = """driver waiting;
import wdm;
event Done;
var ready : bool = false;
routine Create(Irp) as DRIVER_DISPATCH(IRP_MJ_CREATE) {
    KeWaitForSingleObject(&Done, Executive, KernelMode, FALSE, NULL);
}
routine OnDpc() as KDEFERRED_ROUTINE {
    if (ready) { KeSetEvent(&Done, 0, FALSE); }
}
"""
"""Nobody ever sets the event, though a routine seems to."""


def test_a_signal_that_never_comes_cannot_be_claimed(tmp_path: Path) -> None:
    """The script has no queries for it."""
    proofs = prove(tmp_path, WAITING)

    def claim(content: dict[str, Any]) -> None:
        for entry in content["obligations"]:
            assert entry["code"] != "D03" or entry["verdict"] != "proved"
            entry["verdict"] = "proved"

    change(proofs, claim)
    assert recheck(proofs)[0].problem != ""
