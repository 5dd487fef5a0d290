// An unusable file. The message says what was found, what was expected and, if there is one, the fix.

export class ArtifactError extends Error {
  name = "ArtifactError";
}
