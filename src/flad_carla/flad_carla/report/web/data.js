"use strict";
// Reads the columns that packing.py wrote, and looks values up by time.

const $ = (id) => document.getElementById(id);

function bytesOf(base64) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

async function unpack(packed) {
  const stream = new Blob([bytesOf(packed.blob)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const deltas = new Int32Array(await new Response(stream).arrayBuffer());
  const columns = {};
  let at = 0;
  for (const [name, size, step] of packed.columns) {
    const values = new Float64Array(size);
    let whole = 0;
    for (let i = 0; i < size; i++) {
      whole += deltas[at + i];
      values[i] = whole === packed.missing ? NaN : whole * step;
    }
    columns[name] = values;
    at += size;
  }
  return columns;
}

// Index of the last entry of sorted `times` that is not after t; -1 before the first.
function indexAt(times, t) {
  let low = 0, high = times.length;
  while (low < high) {
    const mid = (low + high) >> 1;
    if (times[mid] <= t + 1e-6) low = mid + 1; else high = mid;
  }
  return low - 1;
}

const mix = (a, b, u) => a + (b - a) * u;
const turn = (a, b, u) => a + (((b - a + 540) % 360 + 360) % 360 - 180) * u;

// Tracks of actors: runs of consecutive animation steps, one list entry per run.
function splitTracks(tracks) {
  const parts = [];
  const n = tracks.actor.length;
  for (let i = 0; i < n;) {
    let j = i + 1;
    while (j < n && tracks.actor[j] === tracks.actor[i] && tracks.step[j] === tracks.step[j - 1] + 1) j++;
    parts.push({ actor: tracks.actor[i], first: tracks.step[i], last: tracks.step[j - 1], at: i });
    i = j;
  }
  return parts;
}

async function openRun(source, town) {
  const [ego, tracks, lights, plans, route] = await Promise.all(
    ["ego", "tracks", "lights", "plans", "route"].map((name) => unpack(source[name])));
  const run = { ...source, ego, tracks, plans, route, parts: splitTracks(tracks), end: ego.t.length ? ego.t[ego.t.length - 1] : 0 };
  run.lightChanges = source.lightPlaces.map(() => ({ t: [], state: [] }));
  for (let i = 0; i < lights.light.length; i++) {
    const change = run.lightChanges[lights.light[i]];
    change.t.push(lights.t[i]);
    change.state.push(lights.state[i]);
  }
  run.planStart = [];
  run.planTime = [];
  for (let i = 0; i < plans.plan.length; i++) {
    if (i === 0 || plans.plan[i] !== plans.plan[i - 1]) { run.planStart.push(i); run.planTime.push(plans.t[i]); }
  }
  run.planStart.push(plans.plan.length);
  run.lanes = town;
  run.pictures = picturesOf(source.thumbs);
  if (source.seen) {
    run.insets = picturesOf(source.insets);
    const names = ["boxes", "truth", "waypoints", "sweeps"];
    const tables = await Promise.all([unpack(source.seen.moments), ...names.map((name) => unpack(source.scenes[name]))]);
    run.moments = tables[0];
    run.scenes = { at: source.scenes.at };
    names.forEach((name, i) => { run.scenes[name] = rowsOf(tables[i + 1], source.scenes.at.length); });
  }
  return run;
}

// One function per picture that gives its address; empty pictures give null.
function picturesOf({ sizes, blob }) {
  const bytes = bytesOf(blob);
  let at = 0;
  return sizes.map((size) => {
    const part = bytes.subarray(at, at += size);
    let url = null;
    return () => (size ? url ??= URL.createObjectURL(new Blob([part], { type: "image/jpeg" })) : null);
  });
}

// A table whose rows belong to pictures, as a list of plain objects per picture.
function rowsOf(table, count) {
  const rows = Array.from({ length: count }, () => []);
  for (let i = 0; i < table.row.length; i++) {
    rows[table.row[i]].push(Object.fromEntries(Object.keys(table).map((name) => [name, table[name][i]])));
  }
  return rows;
}

async function openTown(source) {
  if (!source) return [];
  const { x, y } = await unpack(source.points);
  let at = 0;
  return source.lanes.map(([kind, isJunction, numLeft, numRight]) => {
    const edge = (n) => Array.from({ length: n }, () => [x[at], y[at++]]);
    return { kind, isJunction, left: edge(numLeft), right: edge(numRight) };
  });
}

function egoAt(run, t) {
  const { ego } = run, i = Math.max(0, indexAt(ego.t, t)), j = Math.min(ego.t.length - 1, i + 1);
  const u = j > i ? Math.min(1, Math.max(0, (t - ego.t[i]) / (ego.t[j] - ego.t[i]))) : 0;
  const state = { i };
  for (const name of Object.keys(ego)) {
    state[name] = name === "yaw" ? turn(ego.yaw[i], ego.yaw[j], u) : name === "light" ? ego.light[i] : mix(ego[name][i], ego[name][j], u);
  }
  return state;
}

function actorsAt(run, t) {
  const step = t / run.trackStep, k = Math.floor(step + 1e-6), u = Math.max(0, step - k), { tracks } = run, found = [];
  for (const part of run.parts) {
    if (k < part.first || k > part.last) continue;
    const i = part.at + k - part.first, j = k < part.last ? i + 1 : i;
    found.push({ kind: run.kinds[part.actor], x: mix(tracks.x[i], tracks.x[j], u), y: mix(tracks.y[i], tracks.y[j], u), yaw: turn(tracks.yaw[i], tracks.yaw[j], u) });
  }
  return found;
}

function textAt(track, t) {
  const i = indexAt(track.map((entry) => entry[0]), t);
  return i < 0 ? "" : track[i][1];
}

// Viridis, in nine steps.
const RAMP = ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"];
const rampColor = (u) => RAMP[Math.max(0, Math.min(RAMP.length - 1, Math.floor(u * RAMP.length)))];
const LIGHTS = ["red", "yellow", "green", "off", "off"];
const LIGHT_WORDS = ["red", "yellow", "green", "off", "unknown"];
let palette = {};  // colours of the current theme, looked up once
const css = (name) => (palette[name] ??= getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim());
const clockText = (t) => `${Math.floor(t / 60)}:${(t % 60).toFixed(1).padStart(4, "0")}`;

function element(name, attributes = {}, ...children) {
  const svg = ["svg", "path", "g", "line", "rect", "circle", "text", "title", "polyline"].includes(name);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}
