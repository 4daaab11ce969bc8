/** Errors of a device. */

/** The exported folder is damaged, or is made for another kind of device. */
export class ArtifactError extends Error {
  override name = "ArtifactError";
}

/** The cloud cannot be reached, or refuses. */
export class CloudError extends Error {
  override name = "CloudError";
}

/** The cloud adapts only enrolled devices, and this device is not enrolled. */
export class NotEnrolled extends Error {
  override name = "NotEnrolled";
}

/** An argument of the user cannot be used. */
export class DeviceInputError extends Error {
  override name = "DeviceInputError";
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
