package timestore.example;

import java.io.InputStream;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.vector.ipc.ArrowStreamReader;
import org.apache.arrow.vector.ipc.message.ArrowDictionaryBatch;

/**
 * A file whose dictionaries never change.
 *
 * <p>Flight in Java sends dictionaries with the schema and never again. If a later batch came with others, its rows
 * would arrive with the values of the first: better to fail.
 */
final class OneDictionaryReader extends ArrowStreamReader {
  private boolean hasBatch;

  OneDictionaryReader(InputStream file, BufferAllocator allocator) {
    super(file, allocator);
  }

  @Override
  public boolean loadNextBatch() throws java.io.IOException {
    hasBatch = super.loadNextBatch();
    return hasBatch;
  }

  @Override
  protected void loadDictionary(ArrowDictionaryBatch dictionary) {
    if (hasBatch) {
      dictionary.close();
      throw new IllegalArgumentException(
          "a dictionary changes within the file, which Flight in Java cannot send: unify it, or write plain values");
    }
    super.loadDictionary(dictionary);
  }
}
