// The picture of a running lab: nodes, links, packets on their way, what happened, and switches.
// Everything that it does to the lab is a message to live.py.

const SVG = "http://www.w3.org/2000/svg";
const MOST_DOTS = 12; // of one link and direction at a time: more would not be told apart
const FLIGHT_MS = 450;

function make(parent, name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

function button(parent, text, send) {
  const element = document.createElement("button");
  element.textContent = text;
  element.addEventListener("click", send);
  parent.append(element);
  return element;
}

function render({ model, el }) {
  const network = model.get("network");
  el.classList.add("quicpipe-lab-live");
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${network.width} ${network.height}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `the lab ${network.name}`);
  const side = document.createElement("div");
  el.append(svg, side);

  const at = Object.fromEntries(network.nodes.map((node) => [node.name, node]));
  const lines = {};
  for (const [one, other] of network.links) {
    const ends = { x1: at[one].x, y1: at[one].y, x2: at[other].x, y2: at[other].y };
    lines[`${one} ${other}`] = make(svg, "line", { class: "link", ...ends });
  }
  const packets = make(svg, "g", {});
  for (const node of network.nodes) {
    const box = make(svg, "g", { class: `node ${node.kind}` });
    make(box, "rect", { x: node.x - 45, y: node.y - 18, width: 90, height: 36, rx: 7 });
    make(box, "text", { x: node.x, y: node.y - 2 }, node.name);
    make(box, "text", { x: node.x, y: node.y + 11, class: "detail" }, node.detail);
  }

  const switches = {};
  const buttons = document.createElement("div");
  side.append(buttons);
  for (const one of network.switches) {
    switches[one.key] = button(buttons, one.label, () => model.send({ press: one.key }));
  }
  const log = document.createElement("ol");
  side.append(log);

  function showState() {
    const off = new Set(model.get("off"));
    for (const one of network.switches) {
      const isOff = off.has(one.key);
      switches[one.key].textContent = isOff ? one.undo : one.label;
      switches[one.key].classList.toggle("off", isOff);
      const line = one.link && lines[one.link];
      if (line) line.classList.toggle("off", isOff);
    }
  }

  function showTold() {
    log.replaceChildren();
    for (const text of model.get("told").slice(-12)) {
      const line = document.createElement("li");
      line.textContent = text;
      log.append(line);
    }
  }

  function fly({ from, to, kind, count }) {
    if (document.hidden) return;
    const dots = Math.min(count, MOST_DOTS);
    for (let number = 0; number < dots; number++) {
      const dot = make(packets, "circle", { r: 3.5, class: kind });
      const way = [from, to].map((name) => ({
        transform: `translate(${at[name].x}px, ${at[name].y}px)`,
      }));
      const delay = (number * 100) / dots;
      dot.animate(way, { duration: FLIGHT_MS, delay, fill: "both" }).onfinish = () => dot.remove();
    }
  }

  const onMessage = (message) => (message.hops ?? []).forEach(fly);
  model.on("change:off", showState);
  model.on("change:told", showTold);
  model.on("msg:custom", onMessage);
  showState();
  showTold();
  return () => {
    model.off("change:off", showState);
    model.off("change:told", showTold);
    model.off("msg:custom", onMessage);
  };
}

export default { render };
