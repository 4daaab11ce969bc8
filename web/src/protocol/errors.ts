/** The rules that bytes from the cloud can break; names as in `paramcast.protocol.errors`. */

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

/** A package may not be run; the device keeps the parameters that it has. `name` is the rule. */
export class PackageError extends Error {
  constructor(
    readonly rule: Rule,
    message: string,
  ) {
    super(message);
    this.name = rule;
  }
}

/** Whether the cloud may have a newer key, or a newer word of the root for it. */
export function asksForKeys(error: unknown): boolean {
  return error instanceof PackageError && ["BadSignature", "WrongGeneration"].includes(error.rule);
}

/** A request is outside of the wire format's limits. */
export class MessageError extends Error {
  override name = "MessageError";
}
