/** Rules that bytes from the cloud can break; names as in `paramcast.protocol.errors`. */

export type Rule =
  | "TooLarge"
  | "BadFormat"
  | "BadSignature"
  | "WrongGeneration"
  | "WrongDevice"
  | "WrongModel"
  | "StaleSequence"
  | "SequenceJump"
  | "Expired"
  | "Withdrawn"
  | "StaleNotice"
  | "MissingTensor"
  | "UnexpectedTensor"
  | "WrongDtype"
  | "WrongShape"
  | "NotFinite"
  | "ProbeFailed"
  | "NoEffect"
  | "WrongEffect"
  | "NoPublicKey";

/** A package may not be run; the device keeps its present parameters. `name` is the rule. */
export class PackageError extends Error {
  constructor(
    readonly rule: Rule,
    message: string,
  ) {
    super(message);
    this.name = rule;
  }
}

/** Check whether an error may mean that the cloud has a newer key, or a newer delegation by the root. */
export function asksForKeys(error: unknown): boolean {
  return error instanceof PackageError && ["BadSignature", "WrongGeneration"].includes(error.rule);
}

/** A request is outside the limits of the wire format. */
export class MessageError extends Error {
  override name = "MessageError";
}
