import { GraphQLError } from 'graphql';

/** The machine-readable codes of the contract, in `extensions.code`. */
export type Code =
  | 'GRAPHQL_PARSE_FAILED'
  | 'GRAPHQL_VALIDATION_FAILED'
  | 'BAD_REQUEST'
  | 'OPERATION_RESOLUTION_FAILURE'
  | 'BAD_USER_INPUT'
  | 'QUERY_TOO_LONG'
  | 'QUERY_TOO_DEEP'
  | 'QUERY_TOO_MANY_ALIASES'
  | 'QUERY_TOO_COSTLY'
  | 'REQUEST_TOO_LARGE'
  | 'REQUEST_TIMEOUT'
  | 'SERVICE_UNAVAILABLE'
  | 'UPSTREAM_FAILED'
  | 'NOT_IN_THIS_TIER'
  | 'INTERNAL_SERVER_ERROR';

/** One entry of an answer's `errors`. */
export interface ErrorEntry {
  message: string;
  locations?: readonly { line: number; column: number }[];
  path?: readonly (string | number)[];
  extensions: { code: Code };
}

/** An error that one field answers with: HTTP status 200, null by the rules of propagation, the field's path. */
export class FieldError extends Error {
  readonly extensions: { code: Code };

  constructor(code: Code, message: string) {
    super(message);
    this.extensions = { code };
  }
}

/** An argument that the contract does not accept. */
export function badArgument(message: string): FieldError {
  return new FieldError('BAD_USER_INPUT', message);
}

/** An error that the whole request answers with, and with no `data`. */
export class RequestError extends Error {
  readonly code: Code;
  /** The HTTP status where the client accepts `application/graphql-response+json`. */
  readonly status: number;
  /** A well-formed GraphQL request answers 200 instead where the client accepts `application/json`. */
  readonly wellFormed: boolean;
  readonly headers: Readonly<Record<string, string>>;
  readonly entries: readonly ErrorEntry[];

  constructor(
    code: Code,
    status: number,
    message: string,
    options: { wellFormed?: boolean; headers?: Record<string, string>; entries?: readonly ErrorEntry[] } = {},
  ) {
    super(message);
    this.code = code;
    this.status = status;
    this.wellFormed = options.wellFormed ?? false;
    this.headers = options.headers ?? {};
    this.entries = options.entries ?? [{ message, extensions: { code } }];
  }
}

export function badRequest(message: string): RequestError {
  return new RequestError('BAD_REQUEST', 400, message);
}

/** A well-formed request that GraphQL refuses before it executes anything. */
export function refused(code: Code, errors: readonly Error[]): RequestError {
  const entries = errors.map((error) =>
    error instanceof GraphQLError ? entryOf(error, code) : { message: error.message, extensions: { code } },
  );
  return new RequestError(code, 400, entries[0]?.message ?? code, { wellFormed: true, entries });
}

export function requestTimeout(timeoutMs: number): RequestError {
  return new RequestError('REQUEST_TIMEOUT', 504, `Request took longer than ${timeoutMs} ms.`);
}

export function serviceUnavailable(): RequestError {
  return new RequestError('SERVICE_UNAVAILABLE', 503, 'Service unavailable.', { headers: { 'retry-after': '1' } });
}

export function internalServerError(): RequestError {
  return new RequestError('INTERNAL_SERVER_ERROR', 500, 'Internal server error.');
}

/** What graphql-js and graphql-jit have in common: graphql-jit's errors are no GraphQLError. */
interface ExecutionError {
  readonly message: string;
  readonly locations?: readonly { line: number; column: number }[] | undefined;
  readonly path?: readonly (string | number)[] | undefined;
  readonly originalError?: unknown;
}

function entryOf(error: ExecutionError, code: Code, message = error.message): ErrorEntry {
  const entry: ErrorEntry = { message, extensions: { code } };
  if (error.locations !== undefined && error.locations.length > 0) entry.locations = error.locations;
  if (error.path !== undefined) entry.path = error.path;
  return entry;
}

// graphql-js and graphql-jit say in words only that a null reached a non-null argument through a nullable variable.
// In a list or an input object it makes the whole literal an invalid value.
const nullArgument = /^Argument "([^"]+)" (?:of (?:non-null|required) type |(?:of type "[^"]+" )?has invalid value )/;

/**
 * The `errors` of an executed operation as the client may see them. What is not ours is INTERNAL_SERVER_ERROR, and its
 * cause goes to `report` alone, once per call.
 */
export function executionEntries(errors: readonly ExecutionError[], report: (cause: unknown) => void): ErrorEntry[] {
  let reported = false;
  return errors.map((error) => {
    const cause = error.originalError;
    if (cause instanceof FieldError) return entryOf(error, cause.extensions.code);
    // graphql-js wraps its own errors, graphql-jit does not.
    const ofLibrary = cause == null || cause instanceof GraphQLError;
    const argument = ofLibrary ? nullArgument.exec(error.message)?.[1] : undefined;
    if (argument !== undefined) return entryOf(error, 'BAD_USER_INPUT', `Argument "${argument}" must not be null.`);
    if (!reported) report(cause ?? error);
    reported = true;
    return entryOf(error, 'INTERNAL_SERVER_ERROR', 'Internal server error.');
  });
}
