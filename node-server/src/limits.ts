import {
  type FieldNode,
  type FragmentDefinitionNode,
  type GraphQLNamedType,
  type GraphQLSchema,
  getNamedType,
  isAbstractType,
  isCompositeType,
  isInterfaceType,
  isListType,
  isNonNullType,
  isObjectType,
  Kind,
  Lexer,
  type OperationDefinitionNode,
  type SelectionSetNode,
  Source,
  TokenKind,
  valueFromAST,
} from 'graphql';
import { type Code, RequestError } from './errors.ts';

/** contract/limits.json. */
export interface Limits {
  bodyBytes: number;
  tokens: number;
  depth: number;
  aliases: number;
  cost: number;
  pageSize: number;
  rankingSize: number;
  businessDays: number;
  /** A duration as REQUEST_TIMEOUT is one. */
  requestTimeout: string;
  requestsInFlight: number;
  cachedDocuments: number;
}

const numbers = [
  'bodyBytes',
  'tokens',
  'depth',
  'aliases',
  'cost',
  'pageSize',
  'rankingSize',
  'businessDays',
  'requestsInFlight',
  'cachedDocuments',
] as const;

/** Reads the text of limits.json. Throws where a limit is missing or no positive integer. */
export function parseLimits(text: string): Limits {
  const read = JSON.parse(text) as Record<string, unknown>;
  for (const name of numbers) {
    if (!Number.isInteger(read[name]) || (read[name] as number) < 1) {
      throw new Error(`limits.json: ${name} must be a positive integer`);
    }
  }
  if (typeof read.requestTimeout !== 'string') throw new Error('limits.json: requestTimeout must be a duration');
  return read as unknown as Limits;
}

function over(code: Code, message: string): RequestError {
  return new RequestError(code, 400, message, { wellFormed: true });
}

/**
 * Counts lexical tokens without comments, and stops at the limit, so that a long document costs no more than one at the
 * limit. Throws QUERY_TOO_LONG, or graphql's syntax error where the text before the limit has no tokens to count.
 */
export function checkTokens(text: string, limits: Limits): void {
  const lexer = new Lexer(new Source(text));
  let tokens = 0;
  while (lexer.advance().kind !== TokenKind.EOF) {
    if (++tokens > limits.tokens) {
      throw over('QUERY_TOO_LONG', `Query has more than ${limits.tokens} tokens; the limit is ${limits.tokens}.`);
    }
  }
}

/** Lists that take no `first` count as this many objects. */
const unpagedListSize = 50;
/** Where cost stops growing: what fits the contract's integers. */
const mostCost = 2 ** 31 - 1;

type Variables = Readonly<Record<string, unknown>>;

/**
 * What one operation of a validated document asks for. Depth, aliases and a cost without variables are computed once,
 * and fragments once each, so that nested spreads don't multiply the work.
 */
export class OperationWeight {
  readonly #schema: GraphQLSchema;
  readonly #operation: OperationDefinitionNode;
  readonly #fragments: ReadonlyMap<string, FragmentDefinitionNode>;
  readonly #depth: number;
  readonly #aliases: number;
  readonly #fixedCost: number | null;
  #dependsOnVariables = false;

  constructor(
    schema: GraphQLSchema,
    operation: OperationDefinitionNode,
    fragments: ReadonlyMap<string, FragmentDefinitionNode>,
    aliases: number,
  ) {
    this.#schema = schema;
    this.#operation = operation;
    this.#fragments = fragments;
    this.#aliases = aliases;
    this.#depth = this.#depthOf(operation.selectionSet, new Map());
    const cost = this.#cost({});
    this.#fixedCost = this.#dependsOnVariables ? null : cost;
  }

  /** Throws the first limit that is broken: depth, aliases, cost. `variables` are coerced ones. */
  checkLimits(variables: Variables, limits: Limits): void {
    if (this.#depth > limits.depth) {
      throw over('QUERY_TOO_DEEP', `Query has depth ${this.#depth}; the limit is ${limits.depth}.`);
    }
    if (this.#aliases > limits.aliases) {
      throw over('QUERY_TOO_MANY_ALIASES', `Query has ${this.#aliases} aliases; the limit is ${limits.aliases}.`);
    }
    const cost = this.#fixedCost ?? this.#cost(variables);
    if (cost > limits.cost) throw over('QUERY_TOO_COSTLY', `Query costs ${cost}; the limit is ${limits.cost}.`);
  }

  #depthOf(selectionSet: SelectionSetNode, ofFragments: Map<string, number>): number {
    let deepest = 0;
    for (const selection of selectionSet.selections) {
      let depth = 0;
      if (selection.kind === Kind.FIELD) {
        if (selection.name.value.startsWith('__')) continue;
        depth = 1 + (selection.selectionSet === undefined ? 0 : this.#depthOf(selection.selectionSet, ofFragments));
      } else if (selection.kind === Kind.INLINE_FRAGMENT) {
        depth = this.#depthOf(selection.selectionSet, ofFragments);
      } else {
        const name = selection.name.value;
        const fragment = this.#fragments.get(name);
        const known = ofFragments.get(name);
        if (known !== undefined) depth = known;
        else if (fragment !== undefined) {
          depth = this.#depthOf(fragment.selectionSet, ofFragments);
          ofFragments.set(name, depth);
        }
      }
      deepest = Math.max(deepest, depth);
    }
    return deepest;
  }

  #cost(variables: Variables): number {
    const root = this.#schema.getRootType(this.#operation.operation);
    if (root == null) return 0;
    return this.#costOf(this.#operation.selectionSet, root, variables, new Map());
  }

  #costOf(
    selectionSet: SelectionSetNode,
    parent: GraphQLNamedType,
    variables: Variables,
    ofFragments: Map<string, number>,
  ): number {
    let cost = 0;
    for (const selection of selectionSet.selections) {
      if (selection.kind === Kind.FIELD) {
        cost += this.#costOfField(selection, parent, variables, ofFragments);
      } else if (selection.kind === Kind.INLINE_FRAGMENT) {
        const type = selection.typeCondition && this.#schema.getType(selection.typeCondition.name.value);
        cost += this.#costOf(selection.selectionSet, type ?? parent, variables, ofFragments);
      } else {
        const name = selection.name.value;
        const fragment = this.#fragments.get(name);
        const type = fragment && this.#schema.getType(fragment.typeCondition.name.value);
        let ofFragment = ofFragments.get(name);
        if (ofFragment === undefined && fragment !== undefined && type !== undefined) {
          ofFragment = this.#costOf(fragment.selectionSet, type, variables, ofFragments);
          ofFragments.set(name, ofFragment);
        }
        cost += ofFragment ?? 0;
      }
    }
    return Math.min(cost, mostCost);
  }

  #costOfField(
    node: FieldNode,
    parent: GraphQLNamedType,
    variables: Variables,
    ofFragments: Map<string, number>,
  ): number {
    if (node.selectionSet === undefined || node.name.value.startsWith('__')) return 0;
    if (!isObjectType(parent) && !isInterfaceType(parent)) return 0;
    const field = parent.getFields()[node.name.value];
    if (field === undefined) return 0;
    const type = getNamedType(field.type);
    if (!isCompositeType(type) && !isAbstractType(type)) return 0;
    const one = 1 + this.#costOf(node.selectionSet, type, variables, ofFragments);
    const outer = isNonNullType(field.type) ? field.type.ofType : field.type;
    if (!isListType(outer)) return one;
    const first = field.args.find((argument) => argument.name === 'first');
    if (first === undefined) return Math.min(unpagedListSize * one, mostCost);
    const given = node.arguments?.find((argument) => argument.name.value === 'first')?.value;
    let size: unknown;
    if (given?.kind === Kind.VARIABLE) {
      this.#dependsOnVariables = true;
      size = variables[given.name.value];
    } else if (given !== undefined) {
      size = valueFromAST(given, first.type);
    }
    if (size === undefined) size = first.defaultValue;
    return typeof size === 'number' && size > 0 ? Math.min(size * one, mostCost) : 0;
  }
}
