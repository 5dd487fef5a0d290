// onnxruntime-node 1.29 and newer report to their maker unless this is set before they are imported, so import this module
// first. A value that is set already is kept.
process.env.ORT_DISABLE_TELEMETRY ??= "1";
