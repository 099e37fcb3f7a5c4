// SPDX-License-Identifier: Apache-2.0
// How figures and states are written and drawn.
"use strict";

const SVG = "http://www.w3.org/2000/svg";

const byId = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function draw(tag, attributes, parent) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  parent.append(element);
  return element;
}

function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const ENDED = ["finished", "truncated", "stopped"];

function kindOf(state) {
  if (state === "live") return "good";
  if (state === "connecting" || state === "paused") return "warning";
  if (state === "finished" || state === "stopped") return "";
  return "bad";
}

const IN_WORDS = { backoff: "reconnecting", auth_failed: "not let in" }; // as the log and `top` say it
const inWords = (state) => IN_WORDS[state] || state.replace("_", " ");

function pill(element, stream) {
  say(element, inWords(stream.state));
  element.title = stream.state; // the name that the API has
  element.className = `pill ${isFruitless(stream) ? "bad" : kindOf(stream.state)}`;
}

const milliseconds = (value) => {
  if (value === null || value === undefined) return "–";
  if (value >= 1000) return `${(value / 1000).toFixed(value < 10000 ? 2 : 1)} s`;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
};

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

const perSecond = (value) => (value === null || value === undefined ? "–" : `${value.toFixed(1)} /s`);
const count = (value) => value.toLocaleString("en");
const lostOf = (stream) => Object.values(stream.frames.dropped).reduce((sum, each) => sum + each, 0);
const reasonsOf = (stream, between = ", ") =>
  Object.entries(stream.frames.dropped).map(([reason, each]) => `${count(each)} ${reason.replace("_", " ")}`).join(between);

// A live stream whose results are older than ten of its intervals, and than three seconds.
function isLate(stream) {
  return stream.state === "live" && stream.age_s > Math.max(3, stream.rate_fps ? 10 / stream.rate_fps : 0);
}

// Frames come, and every one of them is lost.
const isFruitless = (stream) => stream.state === "live" && stream.cause !== null;

// How long a stream has not been live.
const forHowLong = (stream) => (stream.state === "live" || ENDED.includes(stream.state) ? "" : `for ${duration(stream.since_s).replace(/\.\d/, "")}`);

// When a stream is tried again, by this page's clock, from what was told and when.
const nextTry = (stream) => (stream.next_try_s === null ? null : performance.now() + 1000 * stream.next_try_s);

function sayNextTry(element, at) {
  const left = at === null ? 0 : Math.ceil((at - performance.now()) / 1000);
  say(element, left > 0 ? `Next try in ${duration(left).replace(".0", "")}` : "");
}

// Nobody has to look after it.
function isWell(stream) {
  return (stream.state === "live" && !isLate(stream) && !isFruitless(stream)) || ["finished", "stopped", "paused"].includes(stream.state);
}

function sparkline(svg, values, step) {
  const key = values.join();
  if (svg.dataset.key === key) return;
  svg.dataset.key = key;
  svg.replaceChildren();
  draw("line", { class: "base", x1: 0, x2: 120, y1: 29, y2: 29 }, svg);
  if (values.length > 1) {
    const top = Math.max(...values, 0.1);
    const first = 120 - values.length;
    const points = values.map((value, at) => `${first + at},${(29 - (value / top) * 26).toFixed(1)}`);
    draw("polygon", { class: "area", points: `${first},29 ${points.join(" ")} 119,29` }, svg);
    draw("polyline", { class: "curve", points: points.join(" ") }, svg);
    const least = Math.min(...values).toFixed(1);
    const minutes = Math.max(1, Math.round((values.length * step) / 60));
    svg.setAttribute("aria-label",
      `Results per second over ${minutes} min: now ${values.at(-1).toFixed(1)}, least ${least}, most ${top.toFixed(1)}`);
  } else {
    svg.setAttribute("aria-label", "No history yet");
  }
}
