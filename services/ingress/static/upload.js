// Uploads of a page: each file with its progress. Large ones go to the object store in parts, and go on after a reload.
(() => {
  "use strict";
  const LARGE = 16 * 2 ** 20;
  const AT_ONCE = 2;
  const PARTS_AT_ONCE = 4;
  const SIGNED_AT_ONCE = 16;
  const TRIES = 5;
  const KEPT = "penstock.upload:";
  const csrf = document.querySelector("meta[name=csrf]").content;
  const template = document.getElementById("upload-row");

  class Cancelled extends Error {}
  class Unreachable extends Error {}

  const kept = {
    get: (name) => { try { return localStorage.getItem(name); } catch { return null; } },
    set: (name, value) => { try { localStorage.setItem(name, value); } catch { /* it cannot be resumed, that is all */ } },
    drop: (name) => { try { localStorage.removeItem(name); } catch { /* nothing was kept */ } },
    names: () => { try { return Object.keys(localStorage).filter((name) => name.startsWith(KEPT)); } catch { return []; } },
  };

  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  function sized(bytes) {
    let unit = 0;
    for (; bytes >= 1024 && unit < units.length - 1; unit += 1) bytes /= 1024;
    return `${unit ? bytes.toFixed(1) : bytes} ${bytes === 1 && !unit ? "byte" : units[unit]}`;
  }
  function lasting(seconds) {
    if (seconds < 60) return `${Math.ceil(seconds)} s`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
    return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
  }
  const pause = (milliseconds) => new Promise((done) => { setTimeout(done, milliseconds); });

  // One request by XMLHttpRequest, which alone tells how much of a body has left.
  function send(method, url, body, { headers = {}, signal, onprogress } = {}) {
    return new Promise((done, failed) => {
      if (signal?.aborted) { failed(new Cancelled()); return; }
      const request = new XMLHttpRequest();
      request.open(method, url);
      for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
      if (onprogress) request.upload.onprogress = (event) => onprogress(event.loaded);
      const abort = () => request.abort();
      signal?.addEventListener("abort", abort, { once: true });
      request.onloadend = () => signal?.removeEventListener("abort", abort);
      request.onload = () => done(request);
      request.onerror = () => failed(new Unreachable());
      request.onabort = () => failed(new Cancelled());
      request.send(body);
    });
  }

  function said(request) {
    try { return JSON.parse(request.responseText); } catch { return {}; }
  }

  async function ask(method, url, body, options = {}) {
    const headers = { accept: "application/json", ...(csrf ? { "x-csrf-token": csrf } : {}) };
    if (body && !(body instanceof FormData)) {
      headers["content-type"] = "application/json";
      body = JSON.stringify(body);
    }
    const request = await send(method, url, body, { ...options, headers });
    const answer = said(request);
    if (request.status < 300) return answer;
    throw Object.assign(new Error(answer.detail || `The answer was ${request.status}.`), { status: request.status, told: answer });
  }

  // what waiting mends is tried again, with growing waits
  async function patiently(action, signal) {
    for (let tried = 1; ; tried += 1) {
      try {
        return await action();
      } catch (error) {
        const mends = error instanceof Unreachable || error.status >= 500 || error.status === 429;
        if (!mends || tried === TRIES || signal.aborted) throw error;
        await pause(Math.min(8000, 250 * 2 ** tried) * (0.5 + Math.random()));
      }
    }
  }

  class Row {
    constructor(list, file, cancel) {
      this.element = template.content.firstElementChild.cloneNode(true);
      this.size = file.size;
      this.samples = [];
      this.find("upload-name").textContent = file.name;
      this.bar = this.element.querySelector("progress");
      this.bar.setAttribute("aria-label", `Upload of ${file.name}`);
      this.button = this.find("upload-cancel");
      this.button.setAttribute("aria-label", `Cancel the upload of ${file.name}`);
      this.button.addEventListener("click", cancel);
      list.prepend(this.element);
    }

    find(name) { return this.element.getElementsByClassName(name)[0]; }

    started(sent) { this.samples = [[performance.now(), sent]]; }

    says(text) { this.find("upload-state").textContent = text; }

    moved(sent) {
      const now = performance.now();
      sent = Math.min(sent, this.size);
      if (now - this.samples.at(-1)[0] < 200 && sent < this.size) return;
      this.samples.push([now, sent]);
      while (this.samples.length > 20) this.samples.shift();
      const [then, before] = this.samples[0];
      const rate = now > then ? (1000 * (sent - before)) / (now - then) : 0;
      this.bar.value = this.size ? sent / this.size : 1;
      const left = rate > 0 && sent < this.size ? `, ${sized(rate)}/s, ${lasting((this.size - sent) / rate)} left` : "";
      this.find("upload-figures").textContent = `${sized(sent)} of ${sized(this.size)}${left}`;
    }

    ended(text, kind) {
      this.says(text);
      this.element.classList.add(kind);
      this.button.remove();
      this.bar.remove();
    }
  }

  class Upload {
    constructor(file, form, list) {
      this.file = file;
      this.form = form;
      this.kind = form.dataset.upload;
      this.stop = new AbortController();
      this.name = `${KEPT}${[this.kind, file.name, file.size, file.lastModified].join("|")}`;
      this.row = new Row(list, file, () => this.cancel());
      this.row.says("Waiting for its turn");
    }

    async run() {
      if (this.stop.signal.aborted) return;
      try {
        this.row.says("Uploading");
        this.done(this.file.size > LARGE ? await this.inParts() : await this.whole());
      } catch (error) {
        if (error instanceof Cancelled || this.stop.signal.aborted) return;
        const reason = error instanceof Unreachable ? "Penstock cannot be reached; choose the file again when it can." : error.message;
        this.row.ended(reason, "is-bad");
      }
    }

    cancel() {
      this.stop.abort();
      this.row.ended("Cancelled", "is-calm");
      const id = kept.get(this.name);
      kept.drop(this.name);
      if (id) ask("DELETE", `/multipart/${id}`).catch(() => { /* it expires by itself */ });
    }

    whole() {
      const body = new FormData();
      body.append("file", this.file);
      this.row.started(0);
      const url = this.kind === "digest" ? "/uploadfile/" : "/files/";
      return ask("POST", url, body, { signal: this.stop.signal, onprogress: (sent) => this.row.moved(sent) });
    }

    async inParts() {
      const begun = (await this.resumed()) ?? (await this.begun());
      this.sent = new Map(begun.sent.map((part) => [part.number, part.size]));
      this.plan = begun;
      this.row.started([...this.sent.values()].reduce((sum, size) => sum + size, 0));
      try {
        for (;;) {
          await this.sendMissing();
          try {
            const answer = await patiently(() => ask("POST", `/multipart/${begun.id}/complete`), this.stop.signal);
            kept.drop(this.name);
            return answer;
          } catch (error) {
            if (error.told?.code !== "UPLOAD_INCOMPLETE") throw error;
            for (const number of error.told.missing) this.sent.delete(number);
          }
        }
      } catch (error) {
        if (!(error instanceof Unreachable) || this.sent.size) throw error;
        // the store takes nothing from here: all of it goes by way of Penstock
        kept.drop(this.name);
        await ask("DELETE", `/multipart/${begun.id}`).catch(() => { /* it expires by itself */ });
        return this.whole();
      }
    }

    async resumed() {
      const id = kept.get(this.name);
      if (!id) return null;
      try {
        const found = await ask("GET", `/multipart/${id}`);
        this.row.says(`Going on where it was cut off: ${found.sent.length} of ${found.parts} parts are there`);
        return found;
      } catch (error) {
        if (error instanceof Unreachable || error.status >= 500) throw error;
        kept.drop(this.name);
        return null;
      }
    }

    async begun() {
      const named = this.kind === "digest" ? { filename: this.file.name } : { key: `files/${this.file.name}` };
      const facts = { size: this.file.size, content_type: this.file.type || null, last_modified: this.file.lastModified };
      const answer = await ask("POST", "/multipart", { ...named, ...facts }, { signal: this.stop.signal });
      kept.set(this.name, answer.id);
      return answer;
    }

    async sendMissing() {
      const missing = Array.from({ length: this.plan.parts }, (_, at) => at + 1).filter((number) => !this.sent.has(number));
      this.under = new Map();
      this.urls = new Map();
      this.failed = null;
      await Promise.all(Array.from({ length: PARTS_AT_ONCE }, () => this.sendNext(missing)));
      if (this.failed) throw this.failed;
    }

    async sendNext(missing) {
      while (missing.length && !this.failed) {
        if (this.stop.signal.aborted) throw new Cancelled();
        const number = missing.shift();
        try {
          await patiently(() => this.sendPart(number, missing), this.stop.signal);
        } catch (error) {
          this.failed ??= error;
        }
      }
    }

    async sendPart(number, missing) {
      const url = await this.address(number, missing);
      const from = (number - 1) * this.plan.part_bytes;
      const part = this.file.slice(from, from + this.plan.part_bytes);
      try {
        const request = await send("PUT", url, part, {
          signal: this.stop.signal,
          onprogress: (sent) => { this.under.set(number, sent); this.moved(); },
        });
        if (request.status === 403) this.urls.clear(); // signed too long ago: those that came with it are too
        if (request.status >= 300) {
          throw Object.assign(new Error(`The store answered ${request.status}.`), { status: request.status === 403 ? 503 : request.status });
        }
        this.sent.set(number, part.size);
      } finally {
        this.under.delete(number);
        this.moved();
      }
    }

    // an address is good for a while and for one try
    async address(number, missing) {
      if (!this.urls.has(number)) {
        const numbers = [number, ...missing.slice(0, SIGNED_AT_ONCE - 1)];
        const { urls } = await ask("POST", `/multipart/${this.plan.id}/sign`, { numbers }, { signal: this.stop.signal });
        for (const [key, url] of Object.entries(urls)) this.urls.set(Number(key), url);
      }
      const url = this.urls.get(number);
      this.urls.delete(number);
      return url;
    }

    moved() {
      const parts = [...this.sent.values(), ...this.under.values()];
      this.row.moved(parts.reduce((sum, size) => sum + size, 0));
    }

    done(answer) {
      const outcome = this.row.find("upload-outcome");
      if (this.kind === "digest") {
        const id = answer.file_id ?? answer.id;
        this.row.ended(`Stored, ${sized(this.file.size)}`, "is-good");
        const result = document.createElement("div");
        const asks = { "hx-get": `/gethash-form/fragment?file_id=${encodeURIComponent(id)}`, "hx-trigger": "load, every 1s", "hx-swap": "outerHTML" };
        for (const [name, value] of Object.entries(asks)) result.setAttribute(name, value);
        outcome.append(link(`/gethash-form/?file_id=${encodeURIComponent(id)}`, `Id ${id}`), result);
        htmx.process(result);
      } else {
        const name = answer.key?.replace(/^files\//, "") ?? this.file.name;
        this.row.ended(`Stored, ${sized(this.file.size)}`, "is-good");
        outcome.append(link(`/files/${encodeURIComponent(name)}`, `Download ${name}`));
      }
      htmx.trigger(document.body, "look");
    }
  }

  function link(url, text) {
    const made = document.createElement("a");
    made.href = url;
    made.textContent = text;
    return made;
  }

  const waiting = [];
  let running = 0;
  async function next() {
    if (running === AT_ONCE || !waiting.length) return;
    running += 1;
    try { await waiting.shift().run(); } finally { running -= 1; next(); }
  }

  function prepare(form) {
    const input = form.querySelector("input[type=file]");
    const list = document.getElementById(`${form.id}-list`);
    const label = form.querySelector("[data-scripted]");
    const take = (files) => {
      for (const file of files) { waiting.push(new Upload(file, form, list)); next(); }
    };
    input.multiple = true;
    label.textContent = label.dataset.scripted;
    form.classList.add("is-scripted");
    input.addEventListener("change", () => { take([...input.files]); form.reset(); });
    form.addEventListener("submit", (event) => event.preventDefault());
    for (const kind of ["dragenter", "dragover"]) {
      form.addEventListener(kind, (event) => { event.preventDefault(); form.classList.add("is-over"); });
    }
    for (const kind of ["dragleave", "drop"]) form.addEventListener(kind, () => form.classList.remove("is-over"));
    form.addEventListener("drop", (event) => { event.preventDefault(); take([...event.dataTransfer.files]); });
    const cut = kept.names().filter((name) => name.startsWith(`${KEPT}${form.dataset.upload}|`));
    if (cut.length) {
      const notice = form.parentElement.querySelector(".resumable");
      const names = cut.map((name) => name.slice(KEPT.length).split("|").slice(1, -2).join("|"));
      notice.textContent = `Cut off: ${names.join(", ")}. Choose the same file again, and it goes on where it stopped.`;
      notice.hidden = false;
    }
  }

  for (const form of document.querySelectorAll("form[data-upload]")) prepare(form);
  // a file that misses its place is not opened in place of the page
  for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => { if (!event.target.closest?.("form[data-upload]")) event.preventDefault(); });
})();
