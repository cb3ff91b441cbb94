import { readFileSync } from 'node:fs';
import path from 'node:path';
import {
  buildSchema,
  type DocumentNode,
  type ExecutionResult,
  type FragmentDefinitionNode,
  GraphQLError,
  GraphQLID,
  type GraphQLScalarType,
  GraphQLSchema,
  getVariableValues,
  Kind,
  type OperationDefinitionNode,
  parse,
  print,
  validate,
  visit,
} from 'graphql';
import { executionEntries, RequestError, refused } from './errors.ts';
import type { Execute, GraphqlRequest } from './http.ts';
import { checkTokens, type Limits, OperationWeight } from './limits.ts';
import { describe, type Logger } from './logging.ts';
import { parseDay } from './master.ts';
import { RequestContext, type Services } from './resolvers.ts';

const directiveNames = new Set(['skip', 'include', 'deprecated', 'specifiedBy']);

function parseDate(value: unknown): string {
  if (typeof value !== 'string' || parseDay(value) === null) {
    throw new GraphQLError('Date must be a day that exists, as YYYY-MM-DD.');
  }
  return value;
}

/** Makes PostgreSQL's text of a timestamp in UTC, `2026-02-27 09:30:00.12+00`, into RFC 3339 with milliseconds. */
export function formatDateTime(text: string): string {
  const seconds = text.length - '+00'.length;
  const fraction = seconds > 19 ? text.slice(20, seconds).padEnd(3, '0') : '000';
  return `${text.slice(0, 10)}T${text.slice(11, 19)}.${fraction}Z`;
}

/** The contract's schema with its scalars. Field resolvers are mercurius' business. */
export function newSchema(contractDir: string): GraphQLSchema {
  const schema = buildSchema(readFileSync(path.join(contractDir, 'schema.graphql'), 'utf8'));
  const date = schema.getType('Date') as GraphQLScalarType;
  date.parseValue = parseDate;
  date.parseLiteral = (node) => parseDate(node.kind === Kind.STRING ? node.value : null);
  const dateTime = schema.getType('DateTime') as GraphQLScalarType;
  dateTime.serialize = (value) => formatDateTime(String(value));
  // graphql-js adds oneOf, which the contract does not have.
  const config = schema.toConfig();
  return new GraphQLSchema({
    ...config,
    directives: config.directives.filter((directive) => directiveNames.has(directive.name)),
  });
}

// An integer beyond 2^53 in JSON comes as a BigInt, so that an id keeps its digits; graphql-js knows no BigInt. Beyond
// it, what was written with a point or an exponent has lost digits, and is none.
const parseIdValue = GraphQLID.parseValue;
GraphQLID.parseValue = (value) => {
  if (typeof value === 'bigint') return value.toString();
  if (Object.is(value, -0)) return '-0';
  if (typeof value === 'number' && !Number.isSafeInteger(value)) {
    throw new GraphQLError(`ID cannot represent value: ${value}`);
  }
  return parseIdValue(value);
};

// graphql-js would parse type definitions too, for validation to refuse.
const executable: ReadonlySet<string> = new Set([Kind.OPERATION_DEFINITION, Kind.FRAGMENT_DEFINITION]);

/** One operation of a document. */
export interface Operation {
  readonly node: OperationDefinitionNode;
  /** Computed for valid documents only: fragments may be circular otherwise. */
  readonly weight: OperationWeight;
}

/** A parsed text, what is known of its validity, and its operations. */
export class Document {
  readonly text: string;
  readonly node: DocumentNode;
  /** What mercurius is given: the same document, without leaves repeated by the hundred. */
  readonly executedText: string;
  readonly executedNode: DocumentNode;
  /** Undefined until it was validated. */
  validity: 'valid' | RequestError | undefined;
  readonly #schema: GraphQLSchema;
  readonly #operationNodes: OperationDefinitionNode[] = [];
  readonly #fragments = new Map<string, FragmentDefinitionNode>();
  readonly #operations = new Map<OperationDefinitionNode, Operation>();
  #aliases: number | undefined;

  constructor(schema: GraphQLSchema, text: string) {
    this.text = text;
    this.node = parse(text);
    const foreign = this.node.definitions.find(({ kind }) => !executable.has(kind));
    if (foreign !== undefined) {
      throw new GraphQLError(`Syntax Error: Unexpected ${foreign.kind}.`, { nodes: foreign });
    }
    this.executedNode = withoutRepeats(this.node);
    this.executedText = this.executedNode === this.node ? text : print(this.executedNode);
    this.#schema = schema;
    for (const definition of this.node.definitions) {
      if (definition.kind === Kind.OPERATION_DEFINITION) {
        this.#operationNodes.push(definition);
        if (schema.getRootType(definition.operation) == null) this.validity = noSuchOperationType(definition);
      } else if (definition.kind === Kind.FRAGMENT_DEFINITION) {
        this.#fragments.set(definition.name.value, definition);
      }
    }
  }

  get hasSeveralOperations(): boolean {
    return this.#operationNodes.length > 1;
  }

  /** The operation of that name, or the only one. Throws OPERATION_RESOLUTION_FAILURE. */
  operation(name: string | null): Operation {
    const node =
      name === null
        ? this.#operationNodes.length === 1
          ? this.#operationNodes[0]
          : undefined
        : this.#operationNodes.find((candidate) => candidate.name?.value === name);
    if (node === undefined) {
      const message =
        name === null
          ? 'Must provide operation name if query contains multiple operations.'
          : `Unknown operation named ${JSON.stringify(name)}.`;
      throw refused('OPERATION_RESOLUTION_FAILURE', [new GraphQLError(message)]);
    }
    let operation = this.#operations.get(node);
    if (operation === undefined) {
      this.#aliases ??= countAliases(this.node);
      operation = { node, weight: new OperationWeight(this.#schema, node, this.#fragments, this.#aliases) };
      this.#operations.set(node, operation);
    }
    return operation;
  }
}

/** graphql-js compares every two fields of one key, and gives a document up that takes it too many of those. */
const manySelections = 300;

/**
 * The document without leaves that stand twice in one selection set, where there are so many that graphql-js would
 * refuse it; otherwise the document as it is. The answer is the same, since they are one field of it.
 */
function withoutRepeats(document: DocumentNode): DocumentNode {
  return visit(document, {
    SelectionSet(node) {
      if (node.selections.length < manySelections) return undefined;
      const seen = new Set<string>();
      const selections = node.selections.filter((selection) => {
        if (selection.kind !== Kind.FIELD || selection.selectionSet !== undefined) return true;
        const text = print(selection);
        return !seen.has(text) && seen.add(text);
      });
      return selections.length === node.selections.length ? undefined : { ...node, selections };
    },
  });
}

function countAliases(document: DocumentNode): number {
  let aliases = 0;
  visit(document, {
    Field(node) {
      if (node.alias !== undefined) aliases++;
    },
  });
  return aliases;
}

// graphql-js 16 validates nothing under a root type that the schema has not.
function noSuchOperationType(node: OperationDefinitionNode): RequestError {
  const error = new GraphQLError(`Schema does not support operation type "${node.operation}".`, { nodes: node });
  return refused('GRAPHQL_VALIDATION_FAILED', [error]);
}

/** The variables as the operation declares them. Throws BAD_USER_INPUT. */
export function coerceVariables(
  schema: GraphQLSchema,
  operation: Operation,
  variables: Readonly<Record<string, unknown>>,
): Record<string, unknown> | undefined {
  const definitions = operation.node.variableDefinitions;
  if (definitions === undefined || definitions.length === 0) return undefined;
  const { errors, coerced } = getVariableValues(schema, definitions, variables, { maxErrors: 50 });
  if (errors !== undefined) throw refused('BAD_USER_INPUT', errors);
  for (const { type, variable } of definitions) {
    // Only @skip, @include and includeDeprecated take one: to them null is as good as false. graphql-js fails instead.
    if (type.kind === Kind.NAMED_TYPE && type.name.value === 'Boolean' && coerced[variable.name.value] === null) {
      coerced[variable.name.value] = false;
    }
  }
  return coerced;
}

/** Parsed documents by text, the least recently used dropped. A text that cannot be parsed is not kept. */
export class DocumentCache {
  readonly #schema: GraphQLSchema;
  readonly #limits: Limits;
  readonly #documents = new Map<string, Document>();
  // The document asked for last needs no reordering: most requests of a client repeat.
  #newest: Document | undefined;
  /** How often a document was asked for that was there, and that was not. */
  hits = 0;
  misses = 0;

  constructor(schema: GraphQLSchema, limits: Limits) {
    this.#schema = schema;
    this.#limits = limits;
  }

  get size(): number {
    return this.#documents.size;
  }

  /** Throws QUERY_TOO_LONG and GRAPHQL_PARSE_FAILED. */
  get(text: string): Document {
    if (this.#newest?.text === text) {
      this.hits++;
      return this.#newest;
    }
    let document = this.#documents.get(text);
    if (document === undefined) {
      this.misses++;
      document = this.#parse(text);
    } else {
      this.hits++;
      this.#documents.delete(text);
    }
    this.#documents.set(text, document);
    this.#newest = document;
    if (this.#documents.size > this.#limits.cachedDocuments) {
      for (const oldest of this.#documents.keys()) {
        this.#documents.delete(oldest);
        break;
      }
    }
    return document;
  }

  #parse(text: string): Document {
    try {
      checkTokens(text, this.#limits);
      return new Document(this.#schema, text);
    } catch (error) {
      if (error instanceof GraphQLError) throw refused('GRAPHQL_PARSE_FAILED', [error]);
      throw error;
    }
  }
}

/** What mercurius adds to fastify as `app.graphql`. */
export type Graphql = (
  source: string,
  context: object,
  variables: Record<string, unknown> | undefined,
  operationName: string | undefined,
) => Promise<ExecutionResult>;

/**
 * Executes requests with mercurius: it parses, validates, caches, compiles and executes as it always does. What the
 * contract wants around that is here: tokens are counted before it parses; its hook `preExecution` is where a document
 * proves valid and limits are checked (RequestContext.beforeExecution); and what it refuses is sorted into the
 * contract's codes.
 */
export function newExecute(options: {
  graphql: Graphql;
  schema: GraphQLSchema;
  documents: DocumentCache;
  services: Services;
  /** Whether mercurius keeps a compiled query with each text. */
  compiled: boolean;
  logger: Logger;
}): Execute {
  const { graphql, schema, documents, services, compiled, logger } = options;
  const { store, limits } = services;
  const report = (cause: unknown): void => logger.error('field failed', { cause: describe(cause) });

  /** Checks a valid document in the contract's order, and gives the variables that its operation declares. */
  function prepare(document: Document, request: GraphqlRequest, context: RequestContext) {
    const operation = document.operation(request.operationName);
    if (operation.node.operation === 'mutation') {
      if (request.readOnly) {
        const headers = { allow: 'POST' };
        throw new RequestError('BAD_REQUEST', 405, 'A mutation must come by POST.', { headers });
      }
      context.pool = store.primary;
    }
    const variables = coerceVariables(schema, operation, request.variables);
    operation.weight.checkLimits(variables ?? none, limits);
    context.work.timing?.mark('validate');
    return variables;
  }

  /** Says at which stage mercurius refused a document that it saw for the first time. */
  function explain(document: Document, request: GraphqlRequest, context: RequestContext): void {
    const errors = validate(schema, document.executedNode);
    if (errors.length > 0) {
      document.validity = refused('GRAPHQL_VALIDATION_FAILED', errors);
      throw document.validity;
    }
    document.validity = 'valid';
    prepare(document, request, context);
  }

  return async (request, work) => {
    const document = documents.get(request.query);
    if (document.validity instanceof RequestError) throw document.validity;
    work.timing?.mark('parse');
    const context = new RequestContext(services, work);
    let { variables }: { variables: Record<string, unknown> | undefined } = request;
    if (document.validity === 'valid') {
      variables = prepare(document, request, context);
    } else {
      context.beforeExecution = () => {
        document.validity = 'valid';
        return prepare(document, request, context);
      };
    }
    // mercurius keeps one compiled query with each text, of whichever operation came first: one text each, then.
    const { operationName } = request;
    const ownText = compiled && operationName !== null && document.hasSeveralOperations;
    const text = ownText ? `${document.executedText}\n#${JSON.stringify(operationName)}` : document.executedText;
    let result: ExecutionResult;
    try {
      result = await graphql(text, context, variables, operationName ?? undefined);
    } catch (error) {
      if (!(error instanceof RequestError) && document.validity === undefined) explain(document, request, context);
      throw error;
    }
    work.timing?.mark('execute');
    // Broken off and answered already.
    if (work.failure !== null) throw work.failure;
    if (result.errors === undefined) {
      const body = JSON.stringify(result);
      work.timing?.mark('serialize');
      return { body, code: 'OK' };
    }
    const errors = executionEntries(result.errors, report);
    const body = JSON.stringify({ errors, data: result.data ?? null });
    work.timing?.mark('serialize');
    return { body, code: errors[0]?.extensions.code ?? 'OK' };
  };
}

const none: Readonly<Record<string, unknown>> = Object.freeze({});
