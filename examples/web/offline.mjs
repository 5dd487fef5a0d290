// Keeps the page and its model for times without a network, where the browser can: over https, or on this machine.

let keeping = Promise.resolve();

// `path`: the model's, or null for one that was opened from a file; `state` is the element that shows how it stands.
// One after another, so that the model that was opened last is what is kept and spoken of at the end.
export function keepOffline(path, state) {
  keeping = keeping.then(() => keep(path, state));
  return keeping;
}

async function keep(path, state) {
  if (!navigator.serviceWorker) {
    state.textContent = "Needs the network at each visit: this address is neither https nor this machine.";
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

// The service worker at work, which a first visit waits for. Fails where it cannot be installed: `ready` waits for ever.
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
