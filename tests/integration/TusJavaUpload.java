import io.tus.java.client.TusClient;
import io.tus.java.client.TusURLMemoryStore;
import io.tus.java.client.TusUpload;
import io.tus.java.client.TusUploader;
import java.io.File;
import java.net.URL;
import java.util.Map;

/** Uploads a file, in one go or broken off after its first chunk and resumed by a client of its own. */
class TusJavaUpload {
    static final int CHUNK = 5 << 20;
    static final TusURLMemoryStore STORE = new TusURLMemoryStore();

    public static void main(String[] args) throws Exception {
        String endpoint = args[0], token = args[1], key = args[2];
        File file = new File(args[3]);
        int payload = Integer.parseInt(args[4]);
        boolean brokenOff = Boolean.parseBoolean(args[5]);

        TusUpload upload = new TusUpload(file);
        upload.setMetadata(Map.of("key", key, "filename", "Größe 日本.bin", "title", "Größe 日本"));
        TusUploader uploader = chunked(client(endpoint, token).createUpload(upload), payload);
        if (brokenOff) {
            uploader.uploadChunk(); // and no finish(): a request that is open stays open
            uploader = chunked(client(endpoint, token).resumeUpload(new TusUpload(file)), payload);
        }
        System.out.println(uploader.getOffset());
        while (uploader.uploadChunk() > -1) {}
        uploader.finish();
        System.out.println(uploader.getUploadURL());
    }

    static TusClient client(String endpoint, String token) throws Exception {
        TusClient client = new TusClient();
        client.setUploadCreationURL(new URL(endpoint));
        client.setHeaders(Map.of("Authorization", "Bearer " + token));
        client.enableResuming(STORE);
        return client;
    }

    static TusUploader chunked(TusUploader uploader, int payload) {
        uploader.setChunkSize(CHUNK);
        uploader.setRequestPayloadSize(payload);
        return uploader;
    }
}
