// GraphiQL against the server that handed out this page; nothing comes from anywhere else.
const fetcher = GraphiQL.createFetcher({ url: '/graphql' });
const query = `{
  items(first: 5) {
    id
    name
    priceCents
    category { name }
    reviews(first: 2) { rating author { name } }
  }
}
`;
ReactDOM.createRoot(document.getElementById('graphiql')).render(
  React.createElement(GraphiQL, { fetcher, defaultQuery: query, defaultEditorToolsVisibility: false }),
);
