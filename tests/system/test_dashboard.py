"""The dashboard in a real browser, on a complete system with its gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dashboard_pages import PHONE, dashboard
from dev_system import DevSystem
from playwright.sync_api import Browser, Route, expect


def one_task(name: str, agent: str, **fields: Any) -> dict[str, Any]:
    task = {"name": "only", "agent": agent, "result_keys": ["out"], **fields}
    return {"name": name, "task_groups": [{"name": "group", "tasks": [task]}]}


def fan_out(name: str, members: int, **inputs: Any) -> dict[str, Any]:
    measure = {
        "name": "measure",
        "agent": "measure",
        "dependencies": ["gauges"],
        "expansion_config": {"type": "array", "array_mapping": {"gauge": "gauges"}},
        "inputs": {"gauge": "{gauge}", **inputs},
        "result_keys": ["levels"],
        "tolerated_failures": members,
    }
    report = {
        "name": "report",
        "agent": "echo",
        "dependencies": ["levels"],
        "inputs": {"levels": "{levels}"},
        "result_keys": ["report"],
    }
    groups = [{"name": "river", "tasks": [measure]}, {"name": "office", "tasks": [report]}]
    return {"name": name, "context": {"gauges": list(range(members))}, "task_groups": groups}


def test_a_run_is_shown_live_to_its_end(browser: Browser, dev: DevSystem, tmp_path: Path) -> None:
    with dashboard(browser, dev.url) as board:
        # Given the list of runs, and then a run that waits for this test
        board.open("/runs")
        run = dev.submit(one_task("live one", "gated", inputs={"gate": str(tmp_path / "gate")}))

        # Then it appears by itself, and leads to its graph, where it is running
        board.link("live one").click()
        expect(board.status("Running")).to_be_visible()
        assert run in board.page.url
        board.painted_graph()
        expect(board.page.locator(".connection")).to_have_text("Live")

        # When it may end, then the page shows the end without a reload
        (tmp_path / "gate").touch()
        expect(board.status("Completed")).to_be_visible()
        expect(board.page.locator(".connection")).to_have_text("Final")
        expect(board.button("Cancel")).to_have_count(0)


def test_a_fan_out_is_one_tile_that_leads_to_its_members_and_their_details(
    browser: Browser, dev: DevSystem
) -> None:
    run = dev.submit(fan_out("wide one", 240, broken=60), wait=30)
    with dashboard(browser, dev.url) as board:
        board.open(f"/runs/{run}/graph")
        # Two tiles for 241 members
        expect(board.page.get_by_role("application")).to_have_accessible_name(
            "Graph of 2 tasks and 1 dependency. Arrow keys move along the dependencies, Enter opens a task, "
            "plus and minus zoom, 0 shows all. The list has the same tasks as a table."
        )
        board.page.mouse.click(*board.point_of(0))
        drawer = board.dialog("Task measure")
        expect(drawer).to_contain_text("240 members")
        expect(drawer).to_contain_text("4 failed")
        drawer.get_by_role("link", name="Show the members").click()

        # The heat map also has a text; the filter shows which members failed
        expect(board.page.get_by_role("img", name="Heat map of 240 members: 236 done, 4 failed")).to_be_visible()
        board.button("Failed").click()
        rows = board.page.locator("table.rows tbody tr")
        expect(rows).to_have_count(4)
        expect(rows.first).to_contain_text("gauge 59 gave no reading")

        # A failed member has inputs, its error and its attempts
        board.button("measure_60").click()
        member = board.dialog("Member measure [59]")
        expect(member.locator(".error-box")).to_have_text("ValueErrorgauge 59 gave no reading")
        expect(member.get_by_role("region", name="inputs")).to_contain_text('"gauge": 59')
        expect(member).to_contain_text("Attempt 1")

        # Its traceback is folded below the line with the error
        traceback = member.get_by_role("region", name="Traceback")
        expect(traceback).to_be_hidden()
        member.get_by_text("dashboard_agents.py:").click()
        expect(traceback).to_contain_text("in measure")
        expect(traceback).to_contain_text("ValueError: gauge 59 gave no reading")

        # After closing, the focus returns to its previous place
        board.page.keyboard.press("Escape")
        expect(member).to_have_count(0)
        expect(board.button("measure_60")).to_be_focused()


def test_results_timeline_events_and_why_show_the_same_run(browser: Browser, dev: DevSystem) -> None:
    run = dev.submit(fan_out("told one", 130), wait=30)
    with dashboard(browser, dev.url) as board:
        board.open(f"/runs/{run}/results")
        board.page.get_by_role("link", name="levels").click()
        expect(board.page.get_by_role("region", name="value of levels")).to_contain_text('"level": 1.013')
        expect(board.page.locator(".split-detail")).to_contain_text("0 to 99 of 130")
        board.button("Next").click()
        expect(board.page.get_by_role("region", name="value of levels")).to_contain_text('"gauge": 129')

        board.link("Timeline").click()
        expect(board.page.get_by_role("link", name="measure Completed, 130 members")).to_be_visible()

        board.link("Events").click()
        expect(board.page.locator(".event-row").first).to_contain_text("run.accepted")
        board.button("Run").click()
        expect(board.page.locator(".event-row").last).to_contain_text("run.completed")

        board.link("Why").click()
        expect(board.page.get_by_role("heading", name="The run has ended")).to_be_visible()


def test_a_held_member_is_redriven_from_the_dead_letters(browser: Browser, dev: DevSystem) -> None:
    # Given a member that failed permanently and is held: after a redrive, attempts begin at 1 again
    run = dev.submit(one_task("held one", "fail", on_failure="hold", inputs={"times": 1}))
    with dashboard(browser, dev.url) as board:
        board.open(f"/runs/{run}/why")
        expect(board.page.locator("table.rows")).to_contain_text("held")
        board.link("1 held for a decision").click()
        group = board.page.locator(".letter-group", has_text="RuntimeError: requested failure")
        group.get_by_text("Show it").click()
        expect(group).to_contain_text("group / only")

        # When it is redriven, after a confirmation
        group.get_by_role("button", name="Redrive it").click()
        board.dialog("Redrive 1 dead letter?").get_by_role("button", name="Redrive").click()
        expect(board.page.locator(".toast")).to_have_text("Redriven: 1")

        # Then it ran again, failed again, and is held again; after a dismissal its run ends
        group.get_by_role("button", name="Dismiss it").wait_for()
        expect(group).to_contain_text("1 held")
        group.get_by_role("button", name="Dismiss it").click()
        board.dialog("Dismiss 1 dead letter?").get_by_role("button", name="Dismiss").click()
        expect(group).to_have_count(0)
        board.open(f"/runs/{run}/graph")
        expect(board.status("Failed")).to_be_visible()


WRONG = """name: wrong
task_groups:
  - name: first
    tasks:
      - name: a
        agent: echo
        dependencies: [nowhere]
        result_keys: [x]
      - name: b
        agent: nobody
        result_keys: [y]
"""


def test_a_request_is_corrected_at_its_errors_planned_and_submitted(browser: Browser, dev: DevSystem) -> None:
    with dashboard(browser, dev.url) as board:
        board.open("/submit")
        editor = board.page.get_by_label("Request, as YAML or JSON")
        editor.fill(WRONG)
        editor.press("Control+Enter")

        # Every error, with its position; a click selects it in the text
        mistakes = board.page.get_by_role("alert", name="Errors")
        expect(mistakes).to_contain_text("2 errors: the request would be rejected")
        where = mistakes.get_by_role("button", name="/task_groups/0/tasks/1/agent")
        expect(where).to_contain_text("line 10")
        where.click()
        assert board.page.evaluate("getSelection().toString()") == "agent: nobody"
        expect(editor).to_be_focused()

        # After the correction, the plan is shown before anything runs
        editor.fill(WRONG.replace("[nowhere]", "[y]").replace("nobody", "echo").replace("wrong", "fixed"))
        board.button("Preview the plan").click()
        expect(board.page.get_by_role("heading", name="2 executions of 2 tasks in 2 levels")).to_be_visible()
        board.painted_graph()
        board.button("Submit").click()
        expect(board.page.get_by_role("heading", name="fixed")).to_be_visible()
        expect(board.status("Completed")).to_be_visible()


def test_a_run_is_paused_resumed_and_cancelled_each_after_a_confirmation(
    browser: Browser, dev: DevSystem, tmp_path: Path
) -> None:
    run = dev.submit(one_task("stopped one", "gated", inputs={"gate": str(tmp_path / "never")}))
    with dashboard(browser, dev.url) as board:
        board.open(f"/runs/{run}/graph")
        board.button("Pause").click()
        board.dialog("Pause this run?").get_by_role("button", name="Pause").click()
        expect(board.status("Paused")).to_be_visible()
        board.button("Resume").click()
        expect(board.status("Running")).to_be_visible()

        board.button("Cancel").click()
        question = board.dialog("Cancel this run?")
        question.get_by_role("button", name="Go back").click()
        expect(board.status("Running")).to_be_visible()
        board.button("Cancel").click()
        question.get_by_role("button", name="Cancel the run").click()
        expect(board.status("Cancelled")).to_be_visible()


def test_everything_is_reachable_with_the_keyboard(browser: Browser, dev: DevSystem) -> None:
    run = dev.submit(fan_out("typed one", 12), wait=30)
    with dashboard(browser, dev.url) as board:
        board.open("/system")
        keys = board.page.keyboard
        # With keys to the runs, to one of them, into its graph, along its edge and into its task
        keys.press("g")
        keys.press("r")
        expect(board.page.get_by_role("heading", name="Runs", exact=True)).to_be_visible()
        keys.press("/")
        keys.type("typed")
        expect(board.page.locator("table.rows tbody tr")).to_have_count(1)
        keys.press("Tab")
        board.page.locator("h1").click()
        keys.press("j")
        keys.press("Enter")
        expect(board.status("Completed")).to_be_visible()
        assert run in board.page.url
        board.painted_graph()
        board.page.get_by_role("application").focus()
        keys.press("ArrowRight")
        expect(board.page.locator(".graph [aria-live]")).to_have_text("river, measure: Completed, 12 members")
        keys.press("ArrowRight")
        expect(board.page.locator(".graph [aria-live]")).to_have_text("office, report: Completed")
        keys.press("Enter")
        expect(board.dialog("Task report")).to_be_visible()
        keys.press("Escape")
        expect(board.page.get_by_role("application")).to_be_focused()

        # A key for each tab; `?` lists all of them
        keys.press("2")
        expect(board.page.locator(".tabs [aria-current]")).to_have_text("Timeline")
        keys.press("?")
        expect(board.dialog("Keyboard shortcuts")).to_be_visible()
        keys.press("Escape")
        expect(board.dialog("Keyboard shortcuts")).to_have_count(0)


def test_the_theme_is_the_systems_until_one_is_chosen_and_then_stays(browser: Browser, dev: DevSystem) -> None:
    with dashboard(browser, dev.url, theme="dark") as board:
        root = board.page.locator("html")
        board.open("/runs")
        expect(root).to_have_attribute("data-theme", "dark")
        dark = board.page.evaluate("getComputedStyle(document.body).backgroundColor")
        board.page.emulate_media(color_scheme="light")
        expect(root).to_have_attribute("data-theme", "light")
        assert board.page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
        board.button("Use the dark theme").click()
        board.page.reload()
        expect(root).to_have_attribute("data-theme", "dark")


def test_a_lost_connection_is_shown_and_restored(browser: Browser, dev: DevSystem) -> None:
    with dashboard(browser, dev.url) as board:
        # Given a gateway whose stream breaks each time, until the test repairs it
        refused: list[Route] = []

        def breaks(route: Route) -> None:
            refused.append(route)
            route.fulfill(status=200, content_type="text/event-stream", body=": hello\n\n")

        board.page.route("**/v1/events", breaks)
        board.open("/runs")
        expect(board.page.locator(".connection")).to_have_text("Reconnecting")
        board.page.unroute("**/v1/events")
        expect(board.page.locator(".connection")).to_have_text("Live")
        assert refused


def test_the_api_key_is_sent_in_a_header_and_never_in_a_url(browser: Browser, dev: DevSystem) -> None:
    with dashboard(browser, dev.url, expected_errors=(401,)) as board:
        asked: list[str] = []

        def guard(route: Route) -> None:
            asked.append(route.request.url)
            if route.request.headers.get("authorization") == "Bearer anb_k1_right":
                route.continue_()
            else:
                problem = '{"title": "Unauthorized", "status": 401, "detail": "a key is needed"}'
                route.fulfill(status=401, content_type="application/problem+json", body=problem)

        board.page.route("**/v1/**", guard)
        board.page.goto(board.url)
        dialog = board.dialog("Sign in")
        dialog.get_by_label("API key").fill("anb_k1_wrong")
        dialog.get_by_role("button", name="Sign in").click()
        expect(dialog.get_by_role("alert")).to_contain_text("did not accept the key")
        dialog.get_by_label("API key").fill("anb_k1_right")
        dialog.get_by_role("button", name="Sign in").click()
        expect(board.page.get_by_role("heading", name="Runs")).to_be_visible()
        expect(board.page.locator(".connection")).to_have_text("Live")
        assert not [url for url in asked if "anb_" in url]


def test_an_unknown_run_and_an_empty_search_say_what_to_do_next(browser: Browser, dev: DevSystem) -> None:
    with dashboard(browser, dev.url, expected_errors=(404,)) as board:
        board.open("/runs?q=nothing-is-called-so")
        expect(board.page.get_by_role("heading", name="No run matches")).to_be_visible()
        board.link("Show all runs").click()
        expect(board.page.locator("table.rows tbody tr").first).to_be_visible()
        board.open("/runs/no-such-run")
        expect(board.page.get_by_role("heading", name="There is no such run")).to_be_visible()


@pytest.mark.parametrize("place", ["/runs", "/submit", "/dead-letters", "/system"])
def test_no_page_is_wider_than_a_phone(browser: Browser, dev: DevSystem, place: str) -> None:
    with dashboard(browser, dev.url, size=PHONE) as board:
        board.open(place)
        board.page.wait_for_load_state()
        assert board.width_over() <= 0


def test_no_tab_of_a_run_is_wider_than_a_phone(browser: Browser, dev: DevSystem) -> None:
    run = dev.submit(fan_out("narrow one", 240, broken=60), wait=30)
    with dashboard(browser, dev.url, size=PHONE) as board:
        for tab in (
            "graph",
            "graph?as=list",
            "timeline",
            "members",
            "results?key=levels",
            "events",
            "logs",
            "why",
        ):
            board.open(f"/runs/{run}/{tab}")
            board.page.locator(".tab > div > *").first.wait_for()
            assert board.width_over() <= 0, tab


def test_versions_of_the_context_show_writers_and_differences(browser: Browser, dev: DevSystem) -> None:
    run = dev.submit(one_task("versioned one", "echo", message_template="x"), wait=30)
    first = {
        "version": 1,
        "key": "words",
        "kind": "context",
        "run_id": run,
        "time": 1.7e9,
        "bytes": 9,
        "value": ["a"],
    }
    second = {
        **first,
        "version": 2,
        "key": "out",
        "kind": "result",
        "group": "group",
        "task": "only",
        "value": "x",
    }
    context = {
        "session_id": run,
        "at": 2,
        "last": 2,
        "dropped": 0,
        "versions": [first, second],
        "state": {"words": {"value": ["a"], "version": 1}, "out": {"value": "x", "version": 2}},
    }
    difference = {"key": "out", "change": "added", "before": None, "after": "x", "versions": [2]}
    with dashboard(browser, dev.url) as board:
        # Given the server's differences between two versions
        board.page.route("**/context", lambda route: route.fulfill(json=context))
        board.page.route("**/context/diff?*", lambda route: route.fulfill(json={"differences": [difference]}))

        board.open(f"/runs/{run}/context")
        rows = board.page.locator("table.rows tbody tr")
        expect(rows.first).to_contain_text("group / only")
        expect(rows.last).to_contain_text("set by the request")
        board.button("Compare").click()
        expect(board.page.get_by_role("region", name="out", exact=True)).to_contain_text("added out in version 2")


def asks(name: str, **approval: Any) -> dict[str, Any]:
    form = {
        "type": "object",
        "required": ["amount", "account"],
        "properties": {
            "amount": {"type": "integer", "minimum": 1, "title": "Amount", "description": "In euros"},
            "account": {"enum": ["main", "reserve"], "title": "Account"},
            "urgent": {"type": "boolean", "title": "Urgent"},
        },
    }
    asked = {"subject": "Pay the invoice?", "body": "Invoice 4711 of Rivers Ltd.", "form": form, **approval}
    return {
        "name": name,
        "task_groups": [{"name": "office", "tasks": [{"name": "pay", "wait": {"approval": asked}}]}],
    }


def test_a_person_decides_in_the_inbox_with_a_form_made_from_the_schema(browser: Browser, dev: DevSystem) -> None:
    run = dev.submit(asks("invoice 4711"))
    with dashboard(browser, dev.url, expected_errors=(422,)) as board:
        # The list of runs says that the run waits for a person
        board.open("/runs")
        expect(
            board.page.get_by_text("the decision of a person about office/pay (Pay the invoice?)")
        ).to_be_visible()

        # Given the inbox with the form of the approval
        board.open("/approvals")
        card = board.page.get_by_role("region", name="Approval Pay the invoice?")
        expect(card.get_by_text("Invoice 4711 of Rivers Ltd.")).to_be_visible()

        # When the form is not complete, then the field says what is wrong, and the run waits
        card.get_by_label("Account").select_option(label="reserve")
        card.get_by_role("button", name="Approve").click()
        expect(card.get_by_role("alert").first).to_be_visible()
        assert dev.get(f"v1/runs/{run}")["ended_at"] is None

        # When it is, then the decision counts, and the inbox is empty
        card.get_by_label("Amount").fill("120")
        card.get_by_label("Your name").fill("Ann")
        card.get_by_label("Comment").fill("as agreed")
        card.get_by_role("button", name="Approve").click()
        expect(board.page.get_by_text("Nothing to decide")).to_be_visible()
    value = dev.get(f"v1/runs/{run}/result?wait=20s")["results"]["pay"]
    assert (value["decision"], value["by"], value["comment"]) == ("approve", "Ann", "as agreed")
    assert value["data"] == {"account": "reserve", "amount": 120}
