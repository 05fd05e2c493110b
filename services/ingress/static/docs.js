// The documentation of the API; what is tried out there is sent with this page's session.
const place = document.getElementById("swagger");
window.SwaggerUIBundle({
  url: place.dataset.document,
  domNode: place,
  deepLinking: false, // else there are links within buttons
  docExpansion: "list",
  defaultModelsExpandDepth: -1,
  validatorUrl: null,
  requestInterceptor: (request) => {
    const csrf = document.querySelector("meta[name=csrf]").content;
    if (csrf && new URL(request.url, location.href).origin === location.origin) request.headers["x-csrf-token"] = csrf;
    return request;
  },
});
