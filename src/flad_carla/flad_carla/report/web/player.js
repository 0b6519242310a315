"use strict";
// The moving picture: the scene from above, the camera and the dials, at one point in time.

const player = { run: null, t: 0, playing: false, view: "follow", zoom: 7, last: 0, roads: null };

function showRun(run) {
  Object.assign(player, { run, t: 0, playing: false });
  const layer = (name) => {
    const path = new Path2D();
    for (const lane of run.lanes) {
      if ((ROAD_KINDS[lane.kind] ?? "ground") === name) path.addPath(new Path2D(pathOf([...lane.left, ...lane.right.slice().reverse()], true)));
    }
    return path;
  };
  const edges = new Path2D(run.lanes.filter((lane) => ROAD_KINDS[lane.kind] === "road" && !lane.isJunction).map((lane) => pathOf(lane.left) + pathOf(lane.right)).join(""));
  player.roads = { pavement: layer("pavement"), road: layer("road"), edges };
  player.route = new Path2D(run.route.x.length ? pathOf(Array.from(run.route.x, (x, i) => [x, run.route.y[i]])) : "");
  const slider = $("time");
  slider.max = run.end;
  slider.value = 0;
  showSight(run);
  $("camera").hidden = !run.pictures.length || !$("sight").hidden;
  $("marks").replaceChildren(...run.infractions.filter((e) => e.placed)
    .map((e) => element("b", { style: `left:${(100 * e.t) / Math.max(run.end, 0.1)}%`, title: e.label })));
  $("key").replaceChildren(...[["ego", "this vehicle"], ["car", "vehicle"], ["bike", "two-wheeler"], ["walker", "pedestrian"], ["plan", "plan", "round"], ["route", "route"]]
    .map(([color, word, shape = ""]) => element("li", {}, element("i", { class: shape, style: `background:var(--${color})` }), word)));
  setPlaying(false);
  seekTo(0);
}

function seekTo(t) {
  if (!player.run) return;
  player.t = Math.max(0, Math.min(player.run.end, t));
  $("time").value = player.t;
  render();
}

function setPlaying(on) {
  player.playing = on;
  $("play").textContent = on ? "❚❚" : "▶";
  $("play").setAttribute("aria-label", on ? "Pause" : "Play");
  if (!on) return;
  if (player.t >= player.run.end) player.t = 0;
  player.last = performance.now();
  requestAnimationFrame(advance);
}

function advance(now) {
  if (!player.playing) return;
  player.t += Math.min(0.2, (now - player.last) / 1000) * Number($("rate").value);
  player.last = now;
  if (player.t >= player.run.end) { player.t = player.run.end; setPlaying(false); }
  $("time").value = player.t;
  render();
  requestAnimationFrame(advance);
}

function render() {
  const { run, t } = player;
  if (!run || !run.ego.t.length) return;
  const ego = egoAt(run, t);
  drawWorld(run, t, ego);
  drawHud(run, t, ego);
  if (!$("sight").hidden) drawSight(run, t);
  moveCursor(t);
  const text = `${clockText(t)} / ${clockText(run.end)}`;
  $("clock").textContent = text;
  $("time").setAttribute("aria-valuetext", text);
}

function drawHud(run, t, ego) {
  $("hud-speed").textContent = Math.round(ego.speed * 3.6);
  $("hud-desired").textContent = Number.isNaN(ego.desired) ? "" : `wants ${Math.round(ego.desired * 3.6)}`;
  $("hud-throttle").style.width = `${100 * ego.throttle}%`;
  $("hud-brake").style.width = `${100 * ego.brake}%`;
  const steer = 50 * Math.max(-1, Math.min(1, ego.steer));
  Object.assign($("hud-steer").style, { left: `${50 + Math.min(0, steer)}%`, width: `${Math.abs(steer)}%` });
  const words = [["Route", `${ego.completion.toFixed(1)} %`]];
  if (!Number.isNaN(ego.light)) words.push(["Light", LIGHT_WORDS[ego.light], `var(--${LIGHTS[ego.light]})`]);
  for (const [name, label] of [["driver", "Drives"], ["instruction", "Told"], ["notice", "Notice"], ["planner_state", "Planner"], ["expert", "Why"]]) {
    const text = textAt(run.texts[name] ?? [], t);
    if (text) words.push([label, text]);
  }
  const hit = run.infractions.filter((e) => e.placed && t >= e.t && t < e.t + 3).pop();
  if (hit) words.push([`№ ${hit.no}`, hit.label, "var(--bad)"]);
  $("hud-words").replaceChildren(...words.flatMap(([label, text, color]) => [element("dt", {}, label),
    element("dd", {}, ...(color ? [element("i", { class: "lamp", style: `background:${color}` })] : []), text)]));
  const i = Math.max(0, indexAt(run.thumbs.times, t));
  if (!$("camera").hidden && $("thumb").dataset.i !== `${run.id}:${i}`) {
    $("thumb").dataset.i = `${run.id}:${i}`;
    $("thumb").src = run.pictures[i]();
    $("thumb-note").textContent = `${run.thumbs.name} · ${clockText(run.thumbs.times[i])}`;
  }
}

function drawWorld(run, t, ego) {
  const { pen, width, height } = penOf($("world"));
  pen.fillStyle = css("ground");
  pen.fillRect(0, 0, width, height);
  let scale = player.zoom;
  if (player.view === "route") {
    const box = boundsOf(run, 15);
    scale = Math.min(width / box.w, height / box.h);
    pen.translate(width / 2, height / 2);
    pen.scale(scale, scale);
    pen.translate(-box.x - box.w / 2, -box.y - box.h / 2);
  } else if (player.view === "heading") {
    pen.translate(width / 2, height * 0.68);
    pen.scale(scale, scale);
    pen.rotate((-90 - ego.yaw) * Math.PI / 180);
    pen.translate(-ego.x, -ego.y);
  } else {
    pen.translate(width / 2, height / 2);
    pen.scale(scale, scale);
    pen.translate(-ego.x, -ego.y);
  }
  const px = 1 / scale;
  for (const name of ["pavement", "road"]) { pen.fillStyle = css(name); pen.fill(player.roads[name]); }
  pen.strokeStyle = css("lane"); pen.lineWidth = Math.max(0.12, px); pen.stroke(player.roads.edges);
  pen.lineJoin = pen.lineCap = "round";
  pen.strokeStyle = css("route"); pen.globalAlpha = 0.55; pen.lineWidth = Math.max(1.2, 3 * px); pen.stroke(player.route); pen.globalAlpha = 1;
  drawTrail(pen, run, ego.i, px);
  run.lightPlaces.forEach(([x, y], k) => {
    const change = run.lightChanges[k], i = indexAt(change.t, t);
    disc(pen, x, y, Math.max(0.9, 4 * px), css(i < 0 ? "off" : LIGHTS[change.state[i]]), css("panel"), 2 * px);
  });
  for (const actor of actorsAt(run, t)) drawBody(pen, actor.x, actor.y, actor.yaw, actor.kind, px);
  drawBody(pen, ego.x, ego.y, ego.yaw, { color: "ego", length: run.egoSize[0], width: run.egoSize[1] }, px);
  const p = indexAt(run.planTime, t);
  if (p >= 0 && t - run.planTime[p] < 1.5) {
    pen.strokeStyle = css("plan"); pen.lineWidth = Math.max(0.12, 1.5 * px);
    pen.beginPath(); pen.moveTo(ego.x, ego.y);
    for (let i = run.planStart[p]; i < run.planStart[p + 1]; i++) pen.lineTo(run.plans.x[i], run.plans.y[i]);
    pen.stroke();
    for (let i = run.planStart[p]; i < run.planStart[p + 1]; i++) disc(pen, run.plans.x[i], run.plans.y[i], Math.max(0.3, 3 * px), css("panel"), css("plan"), 2 * px);
  }
  for (const event of run.infractions.filter((e) => e.placed && t >= e.t)) {
    disc(pen, event.x, event.y, 8 * px, css("bad"), css("panel"), 2 * px);
    pen.save(); pen.translate(event.x, event.y);
    if (player.view === "heading") pen.rotate((ego.yaw + 90) * Math.PI / 180);
    pen.scale(px, px); pen.fillStyle = css("panel"); pen.font = "700 11px system-ui, sans-serif"; pen.textAlign = "center";
    pen.fillText(event.no, 0, 4); pen.restore();
  }
}

// A canvas's context in CSS pixels, cleared; sharp on any screen.
function penOf(canvas) {
  const density = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * density)) canvas.width = Math.round(width * density);
  if (canvas.height !== Math.round(height * density)) canvas.height = Math.round(height * density);
  const pen = canvas.getContext("2d");
  pen.setTransform(density, 0, 0, density, 0, 0);
  pen.clearRect(0, 0, width, height);
  return { pen, width, height };
}

function drawTrail(pen, run, i, px) {
  const { x, y, speed, t } = run.ego, from = player.view === "route" ? 0 : Math.max(0, indexAt(t, t[i] - 15));
  pen.lineWidth = Math.max(0.35, 2.5 * px);
  for (let k = from; k < i; k += 4) {
    const end = Math.min(i, k + 4);
    pen.strokeStyle = rampColor(speed[k] / Math.max(1, run.topSpeed));
    pen.beginPath(); pen.moveTo(x[k], y[k]); pen.lineTo(x[end], y[end]); pen.stroke();
  }
}

function drawBody(pen, x, y, yaw, kind, px) {
  const length = Math.max(kind.length, 8 * px), width = Math.max(kind.width, kind.color === "walker" ? 8 * px : 4 * px);
  pen.save();
  pen.translate(x, y);
  pen.rotate(yaw * Math.PI / 180);
  pen.fillStyle = css(kind.color);
  pen.strokeStyle = css("panel");
  pen.lineWidth = Math.max(0.08, px);
  pen.beginPath();
  pen.roundRect(-length / 2, -width / 2, length, width, Math.min(length, width) * 0.28);
  pen.fill();
  pen.stroke();
  if (length > 2) {  // windscreen: shows where the front is
    pen.globalAlpha = 0.75; pen.fillStyle = css("panel");
    pen.fillRect(length * 0.12, -width * 0.34, length * 0.14, width * 0.68);
  }
  pen.restore();
}

function disc(pen, x, y, radius, fill, edge, lineWidth) {
  pen.beginPath(); pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fillStyle = fill; pen.fill();
  pen.strokeStyle = edge; pen.lineWidth = lineWidth; pen.stroke();
}
