"use strict";
// Unpacks what the page carries, draws a picture when it comes into view, and lets tables be sorted and saved.

const unpacked = async (id) => {
  const packed = document.getElementById(id).textContent;
  const bytes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
};

const root = document.documentElement;
const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();

const themed = (layout) => {
  const found = structuredClone(layout);
  found.font = { color: colour("--text"), size: 12, family: "system-ui, sans-serif" };
  found.hoverlabel = { bgcolor: colour("--raised"), bordercolor: colour("--line"), font: { color: colour("--text") } };
  for (const key of ["xaxis", "yaxis"]) {
    found[key] = { ...found[key], gridcolor: colour("--line"), linecolor: colour("--line"), zerolinecolor: colour("--line") };
  }
  return found;
};

// A colour of data that can be seen on the page: moved towards the colour of text until its contrast is 3 to 1.
const parts = (text) => (text.startsWith("#")
  ? [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16)) : text.match(/[\d.]+/g).slice(0, 3).map(Number));
const light = (rgb) => rgb.map((v) => (v / 255 <= 0.04045 ? v / 3294.6 : ((v / 255 + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const visible = (text) => {
  const [page, ink] = [parts(colour("--page")), parts(colour("--text"))];
  let rgb = parts(text);
  for (let i = 0; i < 20; i += 1) {
    const [a, b] = [light(rgb), light(page)].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) >= 3) break;
    rgb = rgb.map((v, k) => v + 0.1 * (ink[k] - v));
  }
  return `rgb(${rgb.map(Math.round).join(",")})`;
};
const seen = (trace) => {
  const found = { ...trace };
  if (typeof trace.line?.color === "string") found.line = { ...trace.line, color: visible(trace.line.color) };
  if (typeof trace.marker?.color === "string") found.marker = { ...trace.marker, color: visible(trace.marker.color) };
  return found;
};

const settings = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d"] };

function setTheme(theme) {
  root.dataset.theme = theme;
}

const report = {
  charts: {},
  drawn: new Set(),
  layer: "",

  draw(node) {
    const chart = this.charts[node.dataset.chart];
    const layout = themed(chart.layout);
    node.classList.toggle("short", Boolean(layout.height));
    Plotly.react(node, this.shown(node, chart.data.map(seen)), layout, settings);
    this.drawn.add(node);
    if (node.dataset.part === "peaks" && !node.dataset.bound) {
      node.dataset.bound = "yes";
      node.on("plotly_click", (event) => this.open(...event.points[0].customdata));
    }
  },

  // Of trajectories: all layers, or one with its points, curve and band, and the others pale behind it.
  shown(node, data) {
    if (node.dataset.part !== "trajectories") return data;
    const layer = this.layer;
    return data.map((trace) => {
      const mine = layer !== "" && String(trace.meta.layer) === layer;
      if (trace.meta.part !== "line") return { ...trace, visible: mine };
      if (layer === "" || mine) return { ...trace, opacity: 1 };
      return { ...trace, opacity: 0.18 };
    });
  },

  layers(node) {
    const list = document.querySelector("[data-layer]");
    const lines = this.charts[node.dataset.chart].data.filter((trace) => trace.meta.part === "line");
    const there = lines.map((trace) => String(trace.meta.layer));
    if (!there.includes(this.layer)) this.layer = "";
    list.replaceChildren(new Option("all", ""), ...there.map((layer) => new Option(layer, layer)));
    list.value = this.layer;
  },

  // A cell of a heat map leads to its trajectory.
  open(model, layer) {
    const node = document.querySelector('[data-part="trajectories"]');
    const select = document.querySelector('[data-choose="trajectories"]');
    const key = `trajectories:${model}/ratio`;
    if (!node || !(key in this.charts)) return;
    if (select) select.value = key;
    node.dataset.chart = key;
    this.layer = String(layer);
    this.layers(node);
    this.draw(node);
    document.getElementById("trajectories").scrollIntoView();
  },
};

function bindTable(table) {
  const heads = [...table.querySelectorAll("th")];
  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
  };
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const [x, y] = [value(a, column), value(b, column)];
      const order = typeof x === "number" && typeof y === "number" ? x - y
        : typeof x === "number" ? -1 : typeof y === "number" ? 1 : x.localeCompare(y, "en", { numeric: true });
      return down ? -order : order;
    });
    heads.forEach((other) => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    table.tBodies[0].append(...rows);
  }));
}

function saveTable(table, name) {
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const lines = [...table.rows].map((row) => [...row.cells].map((cell) => {
    const text = cell.dataset.value ?? cell.textContent;
    return quoted(text === "-" ? "" : text);
  }).join(","));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

async function start() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  setTheme(dark.matches ? "dark" : "light");
  const again = () => report.drawn.forEach((node) => report.draw(node));
  dark.addEventListener("change", () => { setTheme(dark.matches ? "dark" : "light"); again(); });
  document.getElementById("theme").addEventListener("click", () => {
    setTheme(root.dataset.theme === "dark" ? "light" : "dark");
    again();
  });
  document.querySelectorAll("table").forEach(bindTable);
  document.querySelectorAll("[data-download]").forEach((button) => button.addEventListener("click", () => {
    saveTable(button.closest(".controls").nextElementSibling.querySelector("table"), button.dataset.download);
  }));
  const [plotly, charts] = await Promise.all([unpacked("plotly-packed"), unpacked("charts-packed")]);
  const script = document.createElement("script");
  script.textContent = plotly;
  document.head.append(script);
  report.charts = JSON.parse(charts);
  const nodes = [...document.querySelectorAll(".chart")];
  document.querySelectorAll("[data-choose]").forEach((select) => select.addEventListener("change", () => {
    const node = document.querySelector(`[data-part="${select.dataset.choose}"]`);
    node.dataset.chart = select.value;
    if (node.dataset.part === "trajectories") report.layers(node);
    report.draw(node);
  }));
  const layers = document.querySelector("[data-layer]");
  if (layers) {
    const node = document.querySelector('[data-part="trajectories"]');
    report.layers(node);
    layers.addEventListener("change", () => { report.layer = layers.value; report.draw(node); });
  }
  const watch = new IntersectionObserver((entries) => entries.filter((one) => one.isIntersecting).forEach((one) => {
    watch.unobserve(one.target);
    report.draw(one.target);
  }), { rootMargin: "300px" });
  nodes.forEach((node) => watch.observe(node));
  root.dataset.ready = "yes";
}

start();
