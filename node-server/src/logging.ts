/** Levels in rising order of importance. */
export const logLevels = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof logLevels)[number];

/** Values of a log line. Names are snake_case and carry their unit. */
export type LogFields = Record<string, string | number | boolean | null | undefined>;

/** Writes JSON lines with `time`, `level` and `msg` first. There is no line per request. */
export interface Logger {
  debug(msg: string, fields?: LogFields): void;
  info(msg: string, fields?: LogFields): void;
  warn(msg: string, fields?: LogFields): void;
  error(msg: string, fields?: LogFields): void;
}

/** A logger that drops whatever is below `level` and hands each line, with its newline, to `write`. */
export function newLogger(level: LogLevel, write: (line: string) => void): Logger {
  const threshold = logLevels.indexOf(level);
  const at =
    (name: LogLevel) =>
    (msg: string, fields?: LogFields): void => {
      if (logLevels.indexOf(name) < threshold) return;
      write(`${JSON.stringify({ time: new Date().toISOString(), level: name, msg, ...fields })}\n`);
    };
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

/** What an unknown thrown value says, for a log line only: it may name hosts, so it never goes to a client. */
export function describe(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause);
  if (cause instanceof AggregateError && cause.errors.length > 0) return describe(cause.errors[0]);
  const code = 'code' in cause && typeof cause.code === 'string' ? ` (${cause.code})` : '';
  return `${cause.message}${code}`;
}
