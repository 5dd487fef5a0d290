// Keeps the page and its model for offline use, if the browser can: over https or on localhost.

let keeping = Promise.resolve();

// `path`: the model's path, or null for a model from a file; `state`: the element that shows the result.
// Calls run one after another, so that the model that was opened last is kept and shown at the end.
export function keepOffline(path, state) {
  keeping = keeping.then(() => keep(path, state));
  return keeping;
}

async function keep(path, state) {
  if (!navigator.serviceWorker) {
    state.textContent = "Needs the network at each visit: this address is neither https nor localhost.";
    return;
  }
  try {
    const worker = await active(await navigator.serviceWorker.register("service_worker.js"));
    const kept = await asked(worker, path === null ? null : new URL(path, location.href).href);
    state.dataset.state = kept ? "ready" : "none";
    state.textContent = kept ? said(path) : "The model could not be kept for offline use.";
  } catch (error) {
    state.dataset.state = "none";
    state.textContent = `Needs the network at each visit: ${error.message}`;
  }
}

const said = (path) =>
  path === null
    ? "The page works offline; open the file again after a reload."
    : "Works offline: page and model are kept here.";

// The active service worker. Fails if it cannot be installed: `ready` alone would wait for ever.
function active(registration) {
  return new Promise((resolve, reject) => {
    navigator.serviceWorker.ready.then((ready) => resolve(ready.active));
    if (registration.active) return;
    const coming = registration.installing ?? registration.waiting;
    const ended = () => {
      if (!coming || coming.state === "redundant") reject(new Error("the browser could not keep the page."));
    };
    coming?.addEventListener("statechange", ended);
    ended();
  });
}

function asked(worker, keep) {
  const { port1, port2 } = new MessageChannel();
  return new Promise((resolve) => {
    port1.onmessage = ({ data }) => resolve(data.kept);
    worker.postMessage({ keep }, [port2]);
  });
}
