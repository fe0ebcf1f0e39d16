"use strict";
// One screen: the status document every second, the history once, events as they come. Nothing is sent but questions.

const KEPT = 600; // seconds on the charts
const EVENTS = 200; // lines
const COLOURS = ["#0969da", "#bf8700", "#1a7f37", "#8250df", "#cf222e", "#1b7c83", "#bc4c00", "#6e7781"];
const pasts = new Map(); // by the name of a connection: times, and by path the series
const shown = new Map(); // by the name of a connection: its elements
const marks = []; // [time, text] of events that are no information, for the charts
let lastEvent = 0;

const byId = (id) => document.getElementById(id);
const colour = (index) => COLOURS[index % COLOURS.length];
const styled = (name) => getComputedStyle(document.body).getPropertyValue(name).trim();
const text = (element, value) => { if (element.textContent !== value) element.textContent = value; };
const label = (element, value) => { if (element.ariaLabel !== value) element.ariaLabel = value; };

function rate(octets) { // octets a second -> bits a second, as lines are sold
  if (octets === null || octets === undefined) return "–";
  const bits = 8 * octets;
  for (const [unit, size] of [["Gbit/s", 1e9], ["Mbit/s", 1e6], ["kbit/s", 1e3]])
    if (bits >= 0.9995 * size) return `${(bits / size).toFixed(bits / size < 99.95 && unit !== "kbit/s" ? 1 : 0)} ${unit}`;
  return `${Math.round(bits)} bit/s`;
}
function octets(count) {
  for (const [unit, size] of [["TB", 1e12], ["GB", 1e9], ["MB", 1e6], ["kB", 1e3]])
    if (count >= size) return `${(count / size).toFixed(1)} ${unit}`;
  return `${count} B`;
}
function age(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]])
    if (seconds >= 2 * size) return `${Math.round(seconds / size)} ${unit}`;
  return `${Math.round(seconds)} s`;
}
const milliseconds = (seconds) => (seconds === null || seconds === undefined ? "–" : `${(1000 * seconds).toFixed(seconds < 0.01 ? 1 : 0)} ms`);
const percent = (part) => (part === null || part === undefined ? "–" : `${Math.round(100 * part)} %`);

const works = (path) => path.status === "up" && !path.peer_says_down;
const stateOf = (path) => path.state || path.status;
const kindOf = (path) => (works(path) ? "good" : stateOf(path) === "waiting" ? "doubt" : "bad");

// ---- the words --------------------------------------------------------------------------------------------------------

function showHealth(status) {
  const paths = status.connections.flatMap((each) => each.paths);
  const good = paths.filter(works).length;
  const health = byId("health");
  health.className = good === paths.length ? "good" : good ? "doubt" : "bad";
  text(health, !paths.length ? "No connection" : good === paths.length ? `All ${good} paths work` : `${good} of ${paths.length} paths work`);
  text(byId("daemon"), `version ${status.version}, up for ${age(status.uptime)}`);
  const { problems } = status;
  byId("wrong").hidden = problems.length === 0;
  const list = byId("problems");
  const before = [...list.children].map((item) => item.textContent).join("\n");
  if (before !== problems.join("\n")) list.replaceChildren(...problems.map((problem) => element("li", problem)));
}
function element(name, content) {
  const made = document.createElement(name);
  made.textContent = content;
  return made;
}

// ---- the cards --------------------------------------------------------------------------------------------------------

function cardsOf(connection) {
  let view = shown.get(connection.name);
  if (!view) {
    const section = byId("connection").content.firstElementChild.cloneNode(true);
    byId("connections").append(section);
    view = { section, cards: [], charts: [] };
    shown.set(connection.name, view);
  }
  text(view.section.querySelector("h2"), connection.name);
  const kind = connection.sealed ? `sealed, ${connection.sealed.cipher || "no keys"}` : "plain";
  text(view.section.querySelector(".facts"), `${connection.local_address} to ${connection.remote_address} on ${connection.tunnel}, ${kind}`);
  connection.paths.forEach((path, index) => {
    if (!view.cards[index]) {
      const card = byId("path").content.firstElementChild.cloneNode(true);
      card.querySelector(".swatch").style.background = card.querySelector(".bar div").style.background = colour(index);
      view.section.querySelector(".paths").append(card);
      view.cards[index] = card;
    }
    showCard(view.cards[index], path);
  });
  view.cards.splice(connection.paths.length).forEach((card) => card.remove());
  return view;
}
function showRows(list, rows) {
  if (list.children.length !== 2 * rows.length) list.replaceChildren(...rows.flatMap(([name]) => [element("dt", name), element("dd", "")]));
  rows.forEach(([name, value], place) => { text(list.children[2 * place], name); text(list.children[2 * place + 1], value); });
}
function showOrder(view, connection, tunnel) { // what became of the order of packets, and what was repaired
  const count = (value) => (value === null || value === undefined ? "–" : String(value));
  const known = connection.adaptive;
  const rows = tunnel ? [[`wait for their order in ${tunnel.name}`, count(tunnel.packets_held)], ["came too late", count(tunnel.ingress_dropped.late)]] : [];
  if (known)
    rows.push(["sent again", count(known.resent)], ["copies", count(known.copies_sent)], ["not waited for any longer", count(known.skipped)],
      ["held for so far (median, 99 %)", `${milliseconds(known.hold_p50)}, ${milliseconds(known.hold_p99)}`]);
  showRows(view.section.querySelector(".order"), rows);
}
function showCard(card, path) {
  text(card.querySelector(".name"), `${path.name} (${path.interface})`);
  label(card, `${path.name} over ${path.interface}`);
  const state = card.querySelector(".state");
  state.className = `state ${kindOf(path)}`;
  text(state, `${stateOf(path)} for ${age(path.since)}`);
  const adaptive = path.adaptive || {};
  text(card.querySelector(".why"), path.reason || adaptive.reason || "");
  const rows = [
    ["out", rate(path.out_rate)], ["in", rate(path.in_rate)], ["share", percent(path.share)],
    ["round trip", milliseconds(path.round_trip)], ["loss", path.loss === null ? "–" : `${path.loss} %`],
    ["sent", octets(path.bytes_sent)], ["received", octets(path.bytes_received)],
    ["from", path.local_address], ["to", path.remote_address],
  ];
  if (adaptive.capacity !== undefined && adaptive.capacity !== null) rows.splice(3, 0, ["line carries", rate(adaptive.capacity)]);
  showRows(card.querySelector("dl"), rows);
  const share = path.share || 0;
  card.querySelector(".bar div").style.width = `${100 * share}%`;
  label(card.querySelector(".bar"), `share of what is sent: ${percent(path.share)}`);
}

// ---- the charts -------------------------------------------------------------------------------------------------------

// by chart: title, factor, the series of each path, the series of the connection (`inside` of the documents)
const CHARTS = {
  out: { title: "Sent, Mbit/s", factor: 8e-6, path: "out_rate", inside: {}, stack: true },
  in: { title: "Received, Mbit/s", factor: 8e-6, path: "in_rate", inside: {}, stack: true },
  trip: { title: "Round trip, ms", factor: 1000, path: "round_trip", inside: { round_trip: "inside the tunnel, estimated" } },
  loss: { title: "Loss, per cent", factor: 1, path: "loss", inside: {}, least: 1 },
  waiting: { title: "Packets that wait for their order", factor: 1, inside: { waiting: "packets" }, least: 10 },
  hold: { title: "Held for their order, ms", factor: 1000, inside: { hold_p50: "half", hold_p99: "99 %" }, least: 1 },
};

function seriesOf(kind, connection) { // each with its label, its colour, and the member that it shows
  const { path: member, inside, stack } = CHARTS[kind];
  const ink = () => styled("--ink"), dim = () => styled("--dim"); // asked anew: the user may change to dark
  const paths = member ? connection.paths.map((path, index) => ({ label: path.name, index, member, stroke: colour(index), fill: stack ? colour(index) : undefined })) : [];
  const dashes = member ? [[6, 3]] : [undefined, [3, 3]];
  return [...paths, ...Object.entries(inside).map(([name, label], place) => ({ label, index: null, member: name, stroke: place ? dim : ink, dash: dashes[place] }))];
}
const pastKey = ({ index, member }) => `${index ?? "inside"} ${member}`;

async function pastOf(connection, now) {
  let past = pasts.get(connection.name);
  if (past) return past;
  past = { times: [], rows: new Map() };
  pasts.set(connection.name, past);
  const answer = await fetch(`history.json?name=${encodeURIComponent(connection.name)}`);
  const found = answer.ok ? await answer.json() : { paths: [], inside: [] };
  const paths = found.paths.map((path) => path.levels[0] || {}), inside = found.inside[0] || {};
  const length = Math.max(0, ...paths.map((level) => (level.out_rate || []).length));
  for (let i = 0; i < length; i++) past.times.push(now - length + i);
  for (const kind of Object.keys(CHARTS))
    for (const series of seriesOf(kind, connection)) {
      const values = (series.index === null ? inside : paths[series.index] || {})[series.member] || [];
      past.rows.set(pastKey(series), [...Array(length - values.length).fill(null), ...values]);
    }
  return past;
}
function note(past, connection, now) {
  past.times.push(now);
  for (const kind of Object.keys(CHARTS))
    for (const series of seriesOf(kind, connection)) {
      const key = pastKey(series);
      if (!past.rows.has(key)) past.rows.set(key, Array(past.times.length - 1).fill(null));
      const from = series.index === null ? connection.inside || {} : connection.paths[series.index];
      const row = past.rows.get(key);
      row.push(from[series.member] ?? null);
      if (row.length > KEPT) row.shift();
    }
  if (past.times.length > KEPT) past.times.shift();
}
function stacked(rows) { // each series on top of those before it
  let below = null;
  return rows.map((row) => (below = row.map((value, i) => (value || 0) + (below ? below[i] : 0))));
}
function rowsOf(past, kind, connection) {
  const { factor } = CHARTS[kind];
  return seriesOf(kind, connection).map((series) => past.rows.get(pastKey(series)).map((value) => (value === null ? null : factor * value)));
}
function dataOf(past, kind, connection) {
  const rows = rowsOf(past, kind, connection);
  return [past.times, ...(CHARTS[kind].stack ? stacked(rows).reverse() : rows)];
}
function chart(view, kind, connection, past) {
  const place = view.section.querySelector(`.chart.${kind}`);
  const { stack, least } = CHARTS[kind];
  const order = seriesOf(kind, connection);
  if (stack) order.reverse();
  const [dim, line] = [() => styled("--dim"), () => styled("--line")];
  const axis = { stroke: dim, grid: { stroke: line, width: 1 }, ticks: { stroke: line } };
  return new uPlot({
    width: Math.max(280, place.clientWidth), height: 144, legend: { show: false }, cursor: { y: false },
    scales: { y: { range: (u, low, high) => [0, Math.max(high || 0, least || 0.1) * 1.05] } },
    axes: [{ ...axis }, { ...axis, size: 54 }],
    series: [{}, ...order.map(({ label, stroke, fill, dash }) => ({ label, stroke, fill, dash, width: stack ? 1 : 1.5, points: { show: false } }))],
    hooks: { draw: [drawMarks] },
  }, dataOf(past, kind, connection), place);
}
function drawMarks(u) {
  const { ctx } = u;
  ctx.save();
  ctx.strokeStyle = styled("--bad");
  ctx.setLineDash([4, 4]);
  for (const [time] of marks) {
    if (time < u.scales.x.min || time > u.scales.x.max) continue;
    const x = u.valToPos(time, "x", true);
    ctx.beginPath();
    ctx.moveTo(x, u.bbox.top);
    ctx.lineTo(x, u.bbox.top + u.bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}
function showCharts(view, connection, past) {
  if (view.paths !== connection.paths.length) {
    view.charts.forEach(([, made]) => made.destroy());
    view.charts = [];
    view.paths = connection.paths.length;
  }
  for (const [kind, { title, stack }] of Object.entries(CHARTS)) {
    const place = view.section.querySelector(`.chart.${kind}`);
    const rows = rowsOf(past, kind, connection);
    const hidden = !stack && rows.every((row) => row.every((value) => value === null));
    place.parentElement.hidden = hidden;
    if (hidden) continue;
    const now = seriesOf(kind, connection).map((series, place) => `${series.label} ${(rows[place].at(-1) ?? 0).toFixed(1)}`);
    label(place, `${title} in the last ten minutes; now ${now.join(", ")}`);
    const found = view.charts.find(([name]) => name === kind);
    if (found) found[1].setData(dataOf(past, kind, connection));
    else view.charts.push([kind, chart(view, kind, connection, past)]);
  }
}

// ---- events -----------------------------------------------------------------------------------------------------------

async function showEvents() {
  const found = await (await fetch(`events.json?after=${lastEvent}`)).json();
  lastEvent = found.last;
  const list = byId("events");
  for (const event of found.events) {
    const item = document.createElement("li");
    const time = element("time", new Date(1000 * event.time).toLocaleTimeString());
    time.dateTime = new Date(1000 * event.time).toISOString();
    const words = element("span", event.text);
    if (event.level !== "info") { words.className = event.level === "error" ? "bad" : "doubt"; marks.push([event.time, event.text]); }
    item.append(time, words);
    list.prepend(item);
  }
  while (list.children.length > EVENTS) list.lastElementChild.remove();
  while (marks.length > EVENTS) marks.shift();
}

// ---- again and again --------------------------------------------------------------------------------------------------

async function look() {
  const answer = await fetch("status.json");
  const status = await answer.json();
  const now = Date.now() / 1000;
  showHealth(status);
  const names = new Set(status.connections.map((each) => each.name));
  for (const [name, view] of shown) if (!names.has(name)) { view.section.remove(); shown.delete(name); pasts.delete(name); }
  for (const connection of status.connections) {
    const view = cardsOf(connection);
    showOrder(view, connection, status.tunnels.find((tunnel) => tunnel.name === connection.tunnel));
    const past = await pastOf(connection, now);
    note(past, connection, now);
    showCharts(view, connection, past);
  }
  await showEvents();
}
async function again() {
  try {
    await look();
  } catch (error) {
    const health = byId("health");
    health.className = "bad";
    text(health, "The daemon does not answer");
  }
  setTimeout(again, 1000);
}
addEventListener("resize", () => {
  for (const view of shown.values())
    for (const [kind, made] of view.charts)
      made.setSize({ width: Math.max(280, view.section.querySelector(`.chart.${kind}`).clientWidth), height: 144 });
});
again();
