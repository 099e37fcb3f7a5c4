// SPDX-License-Identifier: Apache-2.0
// The dashboard: asks for /api/streams every two seconds while somebody looks, and changes what has changed.
"use strict";

const EVERY_MS = 2000;
const AFTER_FAILURE_MS = 5000;
const PATIENCE_MS = 10000;
const FEW = 8; // streams that can be seen at a glance
const WITHOUT_PICTURE = {
  connecting: "is being connected", backoff: "cannot be reached; it is tried again", paused: "is paused",
  auth_failed: "refuses the user name or the password", failed: "failed", finished: "has ended",
  truncated: "has ended before its time", stopped: "was stopped",
};

const rows = new Map(); // name of a stream -> its cells
let shown = null; // name of the stream in the live view
let before = null; // states at the last time, to tell what changed
let asked = null; // of the stream in the live view, until it is so: to pause or to resume
let refused = { text: "", until: 0 }; // why it was not done, said for a while
let newest = {};
let timer = 0;

function newRow(name) {
  const button = make("button", { type: "button", class: "name" }, name);
  button.addEventListener("click", () => open(name));
  const cell = (label, kind = "number") => make("td", { role: "cell", class: kind, "data-label": label });
  const cells = {
    state: make("span"), since: make("span", { class: "note since" }), cause: make("div", { class: "cause" }), why: cell("", "why cause"), next: make("div", { class: "note next" }), at: null,
    rate: cell("Rate"), age: cell("Age"), p50: cell("p50"), p99: cell("p99"), jitter: cell("Jitter"),
    lost: make("div"), reasons: make("div", { class: "reasons" }),
    spark: document.createElementNS(SVG, "svg"),
  };
  cells.spark.setAttribute("class", "spark");
  cells.spark.setAttribute("role", "img");
  cells.spark.setAttribute("viewBox", "0 0 120 30");
  cells.spark.setAttribute("preserveAspectRatio", "none");
  const trend = cell("", "trend");
  trend.append(cells.spark);
  const state = cell("", "state");
  state.append(cells.state, " ", cells.since, cells.cause, cells.next);
  const lost = cell("Dropped");
  lost.append(cells.lost, cells.reasons);
  cells.row = make("tr", { role: "row" },
    make("th", { role: "rowheader", scope: "row" }, button), state, cells.why,
    cells.rate, cells.age, cells.p50, cells.p99, cells.jitter, lost, trend);
  rows.set(name, cells);
  byId("rows").append(cells.row);
  return cells;
}

function showRow(stream) {
  const cells = rows.get(stream.name) || newRow(stream.name);
  const recent = stream.windows["60s"].end_to_end || {};
  pill(cells.state, stream);
  say(cells.since, forHowLong(stream));
  cells.at = nextTry(stream);
  sayNextTry(cells.next, cells.at);
  say(cells.cause, stream.detail || "");
  say(cells.rate, ENDED.includes(stream.state) ? "–" : perSecond(stream.rate_fps));
  say(cells.age, duration(stream.age_s));
  cells.age.classList.toggle("late", isLate(stream));
  say(cells.p50, milliseconds(recent.p50_ms));
  say(cells.p99, milliseconds(recent.p99_ms));
  say(cells.jitter, milliseconds(recent.count ? stream.end_to_end.jitter_ms : null));
  say(cells.lost, count(lostOf(stream)));
  say(cells.reasons, reasonsOf(stream, "\n"));
  cells.row.hidden = byId("only").checked && isWell(stream);
  say(cells.why, stream.detail || "");
  sparkline(cells.spark, stream.history.fps, stream.history.step_s);
}

let lostBefore = null; // frames lost by the look before
let losingUntil = 0; // frames were lost shortly before

function showSummary(told) {
  const streams = Object.values(told.streams);
  const live = streams.filter((stream) => stream.state === "live").length;
  const fruitless = streams.filter(isFruitless).length;
  const over = streams.filter((stream) => ["finished", "stopped", "paused"].includes(stream.state)).length;
  const overall = byId("overall");
  if (!streams.length) {
    say(overall, told.uptime_s ? "no streams" : "starting");
    overall.className = "pill warning";
  } else {
    const lostNow = streams.reduce((total, stream) => total + lostOf(stream), 0);
    if (lostBefore !== null && lostNow > lostBefore) losingUntil = Date.now() + 10000;
    lostBefore = lostNow;
    const sinks = Object.values(told.sinks).filter((sink) => sink.state !== "ok").length;
    const losing = live && Date.now() < losingUntil;
    const away = streams.length - live - over;
    const trouble = [fruitless && `${fruitless} without results`, away && `${away} not live`, sinks && `${sinks} ${sinks > 1 ? "sinks" : "sink"} in trouble`].filter(Boolean);
    say(overall, trouble.join(", ") || (losing ? "losing frames" : live ? "all well" : "nothing live"));
    overall.className = `pill ${trouble.length || losing ? (live ? "warning" : "bad") : live ? "good" : ""}`;
  }
  const tile = (id, value, unit = "") => {
    const element = byId(id);
    if (element.dataset.value === value + unit) return;
    element.dataset.value = value + unit;
    element.replaceChildren(value, ...(unit ? [" ", make("small", {}, unit)] : []));
  };
  const sum = (of) => streams.reduce((total, stream) => total + (of(stream) || 0), 0);
  const slowest = Math.max(0, ...streams.map((stream) => (stream.windows["60s"].end_to_end || { p99_ms: 0 }).p99_ms));
  const wanted = sum((stream) => stream.frames.decoded - stream.frames.decimated); // what fps leaves out is no loss
  const lost = sum(lostOf);
  tile("tile-live", `${live}`, `of ${streams.length}`);
  tile("tile-rate", sum((stream) => stream.rate_fps).toFixed(1), "per second");
  tile("tile-p99", ...(slowest ? milliseconds(slowest).split(" ") : ["–"]));
  tile("tile-lost", count(lost), wanted && lost ? `${((100 * lost) / wanted).toFixed(1)} %` : "");
  const model = told.model || {};
  const parts = [model.path ? model.path.split("/").at(-1) : "The model is being loaded", model.adapter, model.device, model.precision];
  if (told.uptime_s) parts.push(`up ${duration(told.uptime_s)}`);
  const swap = (model.swaps || []).at(-1);
  if (swap) parts.push(`model swap ${swap.number}: ${swap.state}${swap.reason ? `, ${swap.reason}` : ""}`);
  say(byId("model"), parts.filter(Boolean).join(" · "));
}

function showSinks(sinks) {
  const told = Object.entries(sinks);
  byId("sinks-part").hidden = !told.length;
  const items = told.map(([name, sink]) => {
    const state = make("span", { class: `pill ${sink.state === "ok" ? "good" : "bad"}` }, sink.state);
    const lost = Object.entries(sink.lost).map(([reason, each]) => `, ${count(each)} lost: ${reason.replace("_", " ")}`);
    const text = `${name} `;
    return make("li", {}, text, state, ` ${count(sink.written)} written${lost.join("")}`,
      ...(sink.path ? [make("div", { class: "path" }, sink.path)] : []),
      ...(sink.error ? [make("div", { class: "cause" }, sink.state === "ok" ? `before: ${sink.error}` : sink.error)] : []));
  });
  byId("sinks").replaceChildren(...items);
}

// Screen readers hear of changes of state, and of nothing else.
function announce(streams) {
  const now = new Map(Object.values(streams).map((stream) => [stream.name, stream.state]));
  if (before !== null) {
    const changed = [...now].filter(([name, state]) => before.has(name) && before.get(name) !== state && state !== "connecting");
    if (changed.length > 3) say(byId("news"), `${changed.length} streams changed their state`);
    else if (changed.length) say(byId("news"), changed.map(([name, state]) => `${name} is ${inWords(state)}`).join(", "));
  }
  before = now;
}

function show(told) {
  newest = told.streams;
  for (const stream of Object.values(newest)) showRow(stream);
  for (const [name, cells] of rows) {
    if (!(name in newest)) {
      cells.row.remove();
      rows.delete(name);
    }
  }
  byId("only-part").hidden = rows.size <= FEW;
  const well = rows.size > 0 && [...rows.values()].every((cells) => cells.row.hidden);
  say(byId("empty"), well ? "Nothing needs attention." : told.uptime_s ? "This daemon has no streams." : "Waiting for the first figures …");
  byId("empty").hidden = rows.size > 0 && !well;
  byId("logout").hidden = !told.token_needed;
  showSummary(told);
  showSinks(told.sinks);
  announce(newest);
  if (shown !== null) {
    showView();
    askStages();
  }
}

// The live view

function open(name) {
  shown = name;
  asked = null;
  refused.until = 0;
  say(byId("view-name"), name);
  byId("stages-part").hidden = true;
  byId("late-part").hidden = true;
  byId("view").showModal();
  showView();
  askStages();
}

function showView() {
  const stream = newest[shown];
  if (!stream) {
    byId("view").close();
    return;
  }
  pill(byId("view-state"), stream);
  say(byId("view-since"), forHowLong(stream));
  sayNextTry(byId("view-next"), nextTry(stream));
  say(byId("view-cause"), Date.now() < refused.until ? refused.text : stream.detail || "");
  const hold = byId("hold");
  const done = stream.state === "paused" ? "pause" : "resume";
  if (asked && (asked.verb === done || Date.now() > asked.until)) asked = null;
  say(hold, asked ? (asked.verb === "pause" ? "Pausing …" : "Resuming …") : done === "pause" ? "Resume" : "Pause");
  hold.disabled = asked !== null || ENDED.includes(stream.state);
  const picture = byId("picture");
  byId("still").href = `/api/streams/${encodeURIComponent(shown)}/frame.jpg`;
  byId("still").hidden = stream.state !== "live" || isFruitless(stream);
  if (isFruitless(stream)) {
    picture.removeAttribute("src");
    picture.alt = "";
    say(byId("no-picture"), "No picture: every frame of this stream is lost before there is a result.");
  } else if (stream.state === "live" || stream.state === "stalled") {
    if (!picture.hasAttribute("src")) picture.src = `/api/streams/${encodeURIComponent(shown)}/video.mjpg`;
    picture.alt = `Live view of ${shown} with the boxes of what was found`;
    say(byId("no-picture"), "Waiting for a picture …"); // it will cover this
  } else {
    picture.removeAttribute("src");
    picture.alt = "";
    say(byId("no-picture"), `No picture: this stream ${WITHOUT_PICTURE[stream.state] || stream.state}.`);
  }
  const frames = stream.frames;
  const size = stream.width ? `${stream.width} × ${stream.height} ${stream.codec}` : "–";
  const facts = [["Picture", size], ["Decoded", count(frames.decoded)], ["Processed", count(frames.processed)],
    ["Left out by fps", count(frames.decimated)], ["Dropped", reasonsOf(stream) || "0"], ["Damaged", count(frames.corrupt)],
    ["Reconnected", count(stream.reconnects)], ["Arrival jitter", milliseconds(stream.jitter.arrival_ms)],
    ["Departure jitter", milliseconds(stream.jitter.departure_ms)]];
  byId("facts").replaceChildren(...facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

// Seconds pass also between two answers.
setInterval(() => {
  if (document.hidden) return;
  for (const cells of rows.values()) if (cells.at !== null) sayNextTry(cells.next, cells.at);
  if (shown !== null && rows.has(shown)) sayNextTry(byId("view-next"), rows.get(shown).at);
}, 1000);

byId("only").addEventListener("change", () => {
  for (const stream of Object.values(newest)) showRow(stream);
  ask();
});
// Stage by stage, of the last minute: of one stream only, and only while it is looked at.
async function askStages() {
  const name = shown;
  if (name === null) return;
  try {
    const answer = await fetch(`/api/streams/${encodeURIComponent(name)}`, { signal: AbortSignal.timeout(PATIENCE_MS), cache: "no-store" });
    if (!answer.ok) return;
    const stream = await answer.json();
    if (name !== shown) return; // closed meanwhile
    showStages(stream);
    showLate(stream);
  } catch {
    // the list is asked for at the same time, and tells that nobody answers
  }
}

function showStages(stream) {
  const recent = stream.windows["60s"];
  const jitter = { ...stream.stages, "end to end": stream.end_to_end };
  const stages = Object.entries(recent.stages);
  if (recent.end_to_end) stages.push(["end to end", recent.end_to_end]);
  byId("stages-part").hidden = !stages.length;
  const added = Object.fromEntries(Object.entries(stream.jitter.added).map(([stage, each]) => [stage, each.transit_added_ms]));
  if (Object.keys(added).length) added["end to end"] = Object.values(added).reduce((sum, each) => sum + each, 0);
  const figure = (value) => (value > 0 && value < 0.005 ? "<0.01" : value < 10 ? value.toFixed(2) : value.toFixed(1));
  const signed = (value) => (value === undefined ? "–" : Math.abs(value) < 0.005 ? "0" : `${value > 0 ? "+" : "−"}${figure(Math.abs(value))}`);
  byId("stages").replaceChildren(...stages.map(([stage, stats]) => make("tr", {},
    make("th", { scope: "row" }, stage),
    ...[stats.p50_ms, stats.p99_ms, (jitter[stage] || {}).jitter_ms || 0].map((value) => make("td", { class: "number" }, figure(value))),
    make("td", { class: "number" }, signed(added[stage])))));
}

const LATE_SHOWN = 5;

// Why frames were late: the newest of them, in the words of the report.
function showLate(stream) {
  const { frames, by, limit_ms: limit } = stream.late;
  byId("late-part").hidden = !stream.slow_frames.length;
  const what = by === "budget" ? `over the budget of ${milliseconds(limit)}` : "slower than 99 of 100";
  say(byId("late-title"), `${count(frames)} late ${frames === 1 ? "frame" : "frames"}, ${what}`);
  byId("late").replaceChildren(...stream.slow_frames.slice(0, LATE_SHOWN).map((frame) => make("li", {},
    make("span", { class: "note" }, `${duration(frame.age_s)} ago, frame ${count(frame.frame)}`),
    make("strong", {}, milliseconds(frame.end_to_end_ms)), make("span", {}, frame.verdict))));
}

byId("close").addEventListener("click", () => byId("view").close());
byId("view").addEventListener("click", (event) => {
  if (event.target === byId("view")) byId("view").close(); // the backdrop
});
byId("view").addEventListener("close", () => {
  const row = rows.get(shown);
  shown = null;
  byId("picture").removeAttribute("src"); // hangs up: nobody looks any more
  if (row) row.row.querySelector("button").focus();
});
byId("picture").addEventListener("error", () => byId("picture").removeAttribute("src"));
byId("hold").addEventListener("click", async () => {
  const verb = byId("hold").textContent === "Resume" ? "resume" : "pause";
  asked = { verb, until: Date.now() + PATIENCE_MS };
  showView();
  let why = "The daemon does not answer.";
  try {
    const answer = await fetch(`/api/streams/${encodeURIComponent(shown)}/${verb}`, { method: "POST" });
    if (answer.ok) {
      ask();
      return;
    }
    why = (await answer.json()).error.message;
  } catch {
    // that is what it says already
  }
  asked = null;
  refused = { text: why, until: Date.now() + PATIENCE_MS };
  showView();
});

function trouble(text) {
  const banner = byId("trouble");
  banner.hidden = !text;
  say(banner, text);
}

async function ask() {
  clearTimeout(timer);
  let pause = EVERY_MS;
  try {
    const answer = await fetch("/api/streams", { signal: AbortSignal.timeout(PATIENCE_MS), cache: "no-store" });
    if (answer.status === 401) {
      location.assign("/login");
      return;
    }
    if (!answer.ok) throw new Error(`${answer.status}`);
    show(await answer.json());
    document.body.classList.remove("old");
    trouble("");
  } catch {
    pause = AFTER_FAILURE_MS;
    document.body.classList.add("old"); // nothing is green that nobody vouches for
    say(byId("overall"), "no answer");
    byId("overall").className = "pill bad";
    trouble("The daemon does not answer. The figures below are old. It is asked again every few seconds.");
  }
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(ask, pause);
}

// With its Origin, which browsers leave out of forms here (Referrer-Policy: no-referrer).
byId("logout").addEventListener("submit", async (event) => {
  event.preventDefault();
  await fetch("/logout", { method: "POST" });
  location.assign("/login");
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else ask();
});
const wanted = decodeURIComponent(location.hash.slice(1));
ask().then(() => {
  if (wanted in newest && wanted !== "streams") open(wanted);
});
