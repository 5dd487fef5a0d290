// What a file can have wrong with it. The message says what was found, what was expected and, where there is one, the
// fix.

export class ArtifactError extends Error {
  name = "ArtifactError";
}
