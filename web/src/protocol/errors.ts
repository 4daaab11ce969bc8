/** The rules that bytes from the cloud can break; names as in `paramcast.protocol.errors`. */

export type Rule =
  | "TooLarge"
  | "BadFormat"
  | "BadSignature"
  | "WrongDevice"
  | "WrongModel"
  | "StaleSequence"
  | "Expired"
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

/** A request is outside of the wire format's limits. */
export class MessageError extends Error {
  override name = "MessageError";
}
