"use strict";
// Draws the plots, in the colours of the style sheet: light, dark, or of print.
(() => {
  const plots = JSON.parse(document.getElementById("plots").textContent);
  const touch = matchMedia("(pointer: coarse)").matches;
  const config = {
    displaylogo: false,
    responsive: true,
    plotlyServerURL: "",
    modeBarButtonsToRemove: ["lasso2d", "select2d"],
    displayModeBar: touch ? false : "hover",
  };

  const themed = (value, style) => {
    if (Array.isArray(value)) {
      return typeof value[0] === "object" && value[0] !== null
        ? value.map((one) => themed(one, style)) : value;
    }
    if (value === null || typeof value !== "object") return value;
    if (typeof value.var === "string") return style.getPropertyValue("--" + value.var).trim();
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, themed(one, style)]));
  };

  const place = (name) => document.getElementById("plot-" + name);

  const draw = () => {
    const style = getComputedStyle(document.documentElement);
    for (const [name, plot] of Object.entries(plots)) {
      const layout = themed(plot.layout, style);
      // A finger scrolls the page; only a mouse zooms.
      layout.dragmode = touch ? false : "zoom";
      Plotly.react(place(name), themed(plot.data, style), layout, config);
    }
  };

  // Plots over the run's time are looked at together.
  const timed = Object.keys(plots).filter((name) => plots[name].timed).map(place);
  let following = false;
  const follow = (source, change) => {
    if (following) return;
    const update = {};
    if ("xaxis.range[0]" in change) {
      update["xaxis.range"] = [change["xaxis.range[0]"], change["xaxis.range[1]"]];
    } else if ("xaxis.range" in change) {
      update["xaxis.range"] = change["xaxis.range"];
    } else if (change["xaxis.autorange"]) {
      update["xaxis.autorange"] = true;
    } else {
      return;
    }
    following = true;
    const others = timed.filter((one) => one !== source);
    Promise.all(others.map((one) => Plotly.relayout(one, update))).finally(() => { following = false; });
  };

  draw();
  for (const one of timed) one.on("plotly_relayout", (change) => follow(one, change));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

  // Paper is narrower than most screens, and known only when it is too late to draw anew: what is
  // drawn is scaled to it.
  const paper = matchMedia("print");
  const scale = (on) => {
    for (const plot of Object.keys(plots).map(place)) {
      const first = plot.querySelector(".main-svg");
      const [width, height] = ["width", "height"].map((name) => first.getAttribute(name));
      plot.style.aspectRatio = on ? `${width} / ${height}` : "";
      for (const svg of plot.querySelectorAll(".main-svg")) {
        if (on) svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
        else svg.removeAttribute("viewBox");
      }
    }
  };
  paper.addEventListener("change", () => { draw(); scale(paper.matches); });
  addEventListener("beforeprint", () => scale(true));
  addEventListener("afterprint", () => scale(false));
  document.documentElement.dataset.drawn = "yes";
})();
