"use strict";
// Shows runs step by step, and filters obligations. All text of models is set as text, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const viewers = new Map();
  let current = null;

  const make = (name, properties = {}, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(properties)) {
      if (key === "class") element.className = value;
      else if (key === "text") element.textContent = value;
      else element.setAttribute(key, value);
    }
    element.append(...children);
    return element;
  };

  // The state of every lane after each step: level, what is held, and whether it is alive, paused or waits.
  const states = (run) => {
    const now = run.lanes.map((lane) => ({ level: lane.irql, held: 0, life: "", paused: "" }));
    const empty = run.helds.findIndex((held) => held.length === 0);
    now.forEach((lane) => { lane.held = empty; });
    return run.steps.map((step) => {
      now.forEach((lane, index) => {
        const place = run.lanes[index].processor;
        const same = index !== step.c && place !== null && place === run.lanes[step.c].processor;
        if (index === step.c) lane.paused = "";
        else if (same && lane.life === "runs" && !lane.paused) lane.paused = run.lanes[step.c].name;
        if (step.e && lane.paused === run.lanes[step.c].name) lane.left = true;
      });
      const lane = now[step.c];
      lane.level = step.q;
      lane.held = step.h;
      lane.life = step.e ? "ended" : step.w ? "waits" : "runs";
      const shown = now.map((each) => ({ ...each }));
      now.forEach((each) => { if (each.left) Object.assign(each, { left: false, paused: "" }); });
      return shown;
    });
  };

  // Which column of its lane the bar of each lock has: the first that is free, kept while the lock is held.
  const columns = (run, after, lane) => {
    const open = new Map();
    let width = 0;
    const rows = after.map((state) => {
      const held = state[lane].held < 0 ? [] : run.helds[state[lane].held];
      for (const name of [...open.keys()]) if (!held.includes(name)) open.delete(name);
      for (const name of held) {
        if (open.has(name)) continue;
        const taken = new Set(open.values());
        let column = 0;
        while (taken.has(column)) column += 1;
        open.set(name, column);
        width = Math.max(width, column + 1);
      }
      return new Map([...open].map(([name, column]) => [column, name]));
    });
    return { rows, width };
  };

  class Viewer {
    constructor(number) {
      this.number = number;
      this.run = data.runs[number - 1];
      this.after = states(this.run);
      this.order = this.run.order;
      this.step = 0;
      this.shownSource = -1;
      this.root = document.querySelector(`[data-run="${number}"]`);
      this.build();
      this.go(this.run.steps.length, false);
    }

    build() {
      const count = this.run.steps.length;
      this.slider = make("input", {
        type: "range", min: 1, max: count, value: count, step: 1, "aria-label": `Step of run ${this.number}`,
      });
      this.said = make("output", { "aria-live": "polite" });
      const button = (text, label, move) => {
        const made = make("button", { type: "button", "aria-label": label, text });
        made.addEventListener("click", () => this.go(move()));
        return made;
      };
      const controls = make("div", { class: "controls" },
        button("\u25c0", "Step back", () => this.step - 1), this.slider,
        button("\u25b6", "Step on", () => this.step + 1), this.said);
      this.slider.addEventListener("input", () => this.go(Number(this.slider.value)));
      this.state = make("ul", { class: "state", "aria-label": "State after the step" });
      this.list = make("div", { class: "steps", tabindex: 0, role: "region", "aria-label": `Steps of run ${this.number}` }, this.table());
      this.list.addEventListener("keydown", (event) => {
        const moves = { ArrowUp: -1, ArrowDown: 1 };
        if (event.key in moves) {
          event.preventDefault();
          this.go(this.step + moves[event.key]);
        }
      });
      this.heading = make("h4");
      this.source = make("div", { class: "source", tabindex: 0, role: "region", "aria-label": `Source of run ${this.number}` });
      this.root.replaceChildren(controls, this.state, make("div", { class: "views" },
        make("div", {}, make("h4", { text: "Steps" }), this.list), make("div", {}, this.heading, this.source)));
      this.root.addEventListener("focusin", () => { current = this; });
    }

    table() {
      const { lanes, steps } = this.run;
      const several = lanes.length > 1;
      const levels = lanes.map((lane, index) => {
        const seen = new Set(steps.filter((step) => step.c === index).map((step) => step.q));
        if (lane.irql !== null) seen.add(lane.irql);
        return [...seen].sort((a, b) => a - b);
      });
      const bars = lanes.map((_, index) => columns(this.run, this.after, index));
      const names = make("tr", {}, ...["#", "line", "source"].map((text) => make("th", { scope: "col", rowspan: 2, text })));
      const parts = make("tr");
      for (const index of this.order) {
        const lane = lanes[index];
        const where = lane.processor === null ? "" : `on cpu ${lane.processor}`;
        const width = 1 + levels[index].length + bars[index].width;
        names.append(make("th", { scope: "colgroup", class: "lane", colspan: width },
          make("span", { text: several ? lane.name : "" }), make("span", { class: "faint", text: ` ${lane.kind} ${where}` })));
        parts.append(make("th", { scope: "col", class: "lane" }, make("span", { class: "hidden", text: "runs" })));
        for (const level of levels[index]) parts.append(make("th", { scope: "col", class: "upright", text: this.run.levels[level] }));
        if (bars[index].width) parts.append(make("th", { scope: "colgroup", colspan: bars[index].width, text: "held" }));
      }
      const body = make("tbody");
      this.rows = steps.map((step, number) => {
        const row = this.row(step, number, levels, bars);
        body.append(row);
        return row;
      });
      return make("table", {}, make("thead", {}, names, parts), body);
    }

    row(step, number, levels, bars) {
      const link = make("a", { href: `#v${this.number}-${number + 1}`, text: number + 1, tabindex: -1,
        "aria-label": `Step ${number + 1}` });
      const what = make("td", { class: "what" });
      const several = this.run.lanes.length > 1;
      const context = several ? `${this.run.lanes[step.c].name}: ` : "";
      const routine = step.r ? `${step.r}: ` : "";
      if (context || routine) what.append(make("span", { class: "faint", text: context + routine }));
      what.append("  ".repeat(Math.min(step.d || 0, 4)) + step.t);
      for (const note of step.n || []) what.append(make("span", { class: "remark", text: `- ${note}` }));
      for (const broken of step.b || []) what.append(make("span", { class: "violated remark", text: broken }));
      const row = make("tr", step.x ? { class: "bad" } : {}, make("td", { class: "number" }, link),
        make("td", { class: "faint", text: step.l }), what);
      row.addEventListener("click", () => this.go(number + 1));
      for (const lane of this.order) row.append(...this.lane(number, lane, levels[lane], bars[lane]));
      return row;
    }

    // The cells of one lane in one row: what it does, its level as a stretch of a step line, its bars.
    lane(number, lane, levels, bars) {
      const state = this.after[number][lane];
      const before = number ? this.after[number - 1][lane] : { level: this.run.lanes[lane].irql, life: "" };
      const acts = this.run.steps[number].c === lane;
      const life = acts ? "\u25cf" : state.paused ? "\u2016" : state.life === "waits" ? "\u2026" : state.life === "runs" ? "\u2502" : "";
      const said = acts ? "steps" : state.paused ? `paused: ${state.paused} runs` : state.life === "waits" ? "waits" : "";
      const cells = [make("td", { class: state.paused && !acts ? "lane paused" : "lane", title: said }, life)];
      if (state.paused && !acts && this.after[number - 1]?.[lane].paused !== state.paused) cells[0].append(" paused");
      for (const level of levels) {
        let kind = "level";
        const alive = state.life !== "" && (state.life !== "ended" || acts);
        if (alive && state.level === level) kind += " up";
        const from = before.life === "" ? state.level : before.level;
        if (alive && from !== state.level && level >= Math.min(from, state.level) && level < Math.max(from, state.level)) kind += " across";
        cells.push(make("td", { class: kind }));
      }
      for (let column = 0; column < bars.width; column += 1) {
        const name = bars.rows[number].get(column);
        const first = name !== undefined && (!number || bars.rows[number - 1].get(column) !== name);
        const last = name !== undefined && (number + 1 === bars.rows.length || bars.rows[number + 1].get(column) !== name);
        const kind = name === undefined ? "" : `bar${first ? " first" : ""}${last ? " last" : ""}${name.includes("(shared)") ? " shared" : ""}`;
        cells.push(make("td", { class: kind, text: first ? name : "", title: name ?? "" }));
      }
      return cells;
    }

    go(wanted, name = true) {
      const number = Math.max(1, Math.min(this.run.steps.length, wanted));
      if (!this.run.steps.length) return;
      current = name ? this : current;
      this.rows[this.step - 1]?.removeAttribute("aria-current");
      this.rows[this.step - 1]?.querySelector("a").setAttribute("tabindex", -1);
      this.step = number;
      const step = this.run.steps[number - 1];
      this.slider.value = number;
      this.slider.setAttribute("aria-valuetext", `${number} of ${this.run.steps.length}: ${step.t}`);
      this.said.textContent = `step ${number} of ${this.run.steps.length}`;
      this.rows[number - 1].setAttribute("aria-current", "step");
      this.rows[number - 1].querySelector("a").setAttribute("tabindex", 0);
      this.show(this.list, this.rows[number - 1]);
      this.showState(number);
      this.showSource(step);
      if (name) history.replaceState(null, "", `#v${this.number}-${number}`);
    }

    // Scrolls inside a view only, so that the page does not jump.
    show(view, element) {
      const box = view.getBoundingClientRect();
      const place = element.getBoundingClientRect();
      const head = view.querySelector("thead")?.offsetHeight ?? 0;
      if (place.top < box.top + head || place.bottom > box.bottom)
        view.scrollTop += place.top - box.top - head - (view.clientHeight - head) / 3;
    }

    showState(number) {
      const lines = this.run.lanes.map((lane, index) => {
        const state = this.after[number - 1][index];
        const before = number > 1 ? this.after[number - 2][index] : { level: lane.irql, held: -1, life: "" };
        const held = state.held < 0 ? [] : this.run.helds[state.held];
        const had = before.held < 0 ? [] : this.run.helds[before.held];
        const line = make("li", {}, make("strong", { text: lane.name }), " ");
        if (!state.life) return make("li", { class: "faint", text: `${lane.name} has not started` });
        const level = this.run.levels[state.level];
        const changed = before.life !== "" && before.level !== state.level;
        line.append("IRQL ", changed ? make("mark", { text: `${this.run.levels[before.level]} \u2192 ${level}` }) : level, "; held: ");
        const parts = held.map((lock) => had.includes(lock) ? lock : make("mark", { text: `+ ${lock}` }));
        for (const lock of had) if (!held.includes(lock)) parts.push(make("mark", { text: `\u2212 ${lock}` }));
        if (!parts.length) parts.push("nothing");
        parts.forEach((part, place) => line.append(...(place ? [", ", part] : [part])));
        if (state.paused) line.append(`; paused: ${state.paused} runs`);
        else if (state.life !== "runs") line.append(`; ${state.life}`);
        return line;
      });
      this.state.replaceChildren(...lines);
    }

    showSource(step) {
      const source = data.sources[step.s];
      if (this.shownSource !== step.s) {
        this.shownSource = step.s;
        this.heading.textContent = source.name;
        const list = make("ol");
        source.lines.forEach((line, number) => list.append(make("li", {}, make("span", { text: number + 1 }), line)));
        this.source.replaceChildren(list);
        this.line = null;
      }
      this.line?.removeAttribute("aria-current");
      this.line?.classList.remove("bad");
      this.line = this.source.firstChild.children[step.l - 1] ?? null;
      this.line?.setAttribute("aria-current", "true");
      this.line?.classList.toggle("bad", Boolean(step.x));
      if (this.line) this.show(this.source, this.line);
    }
  }

  const viewer = (number) => {
    if (!viewers.has(number)) viewers.set(number, new Viewer(number));
    return viewers.get(number);
  };

  for (const element of document.querySelectorAll("details.case")) {
    const number = Number(element.dataset.case);
    element.addEventListener("toggle", () => {
      if (!element.open) return;
      viewer(number).go(viewer(number).step, false);
      current ??= viewer(number);
    });
    if (element.open) current ??= viewer(number);
  }

  // `#v3-12`: step 12 of run 3; `#v3`: run 3 where it was left.
  const follow = () => {
    const wanted = /^#v(\d+)(?:-(\d+))?$/.exec(location.hash);
    if (!wanted) return;
    const element = document.getElementById(`v${wanted[1]}`);
    if (!element) return;
    element.open = true;
    const shown = viewer(Number(wanted[1]));
    shown.go(wanted[2] ? Number(wanted[2]) : shown.step);
    element.scrollIntoView();
  };
  window.addEventListener("hashchange", follow);
  follow();

  document.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: (step) => step - 1, ArrowRight: (step) => step + 1, Home: () => 1, End: () => Infinity };
    const busy = event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented;
    if (busy || !(event.key in moves) || !current || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    if ((event.key === "Home" || event.key === "End") && !current.root.contains(event.target)) return;
    event.preventDefault();
    current.go(moves[event.key](current.step));
  });

  for (const field of document.querySelectorAll("[data-filter]")) {
    field.addEventListener("input", () => {
      const number = field.dataset.filter;
      const words = document.getElementById(`words-${number}`).value.toLowerCase().split(/\s+/);
      const verdict = document.getElementById(`verdict-${number}`).value;
      let shown = 0;
      for (const row of document.querySelectorAll(`#obligations-${number} tbody tr`)) {
        const text = row.textContent.toLowerCase();
        row.hidden = (verdict && row.dataset.v !== verdict) || !words.every((word) => text.includes(word));
        shown += row.hidden ? 0 : 1;
      }
      document.getElementById(`count-${number}`).textContent = `${shown} obligations`;
    });
  }
})();
