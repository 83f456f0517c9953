// Inputs to begin with, by route: the first fills the form when the page opens.

export const EXAMPLES = {
  qa: {
    Lighthouse: {
      question: "Who built the lighthouse?",
      context:
        "The old lighthouse on the northern cape was built in 1871 by Anna Lindqvist, an engineer from Gothenburg. " +
        "Its lamp burned whale oil until 1902. The last keeper, Piet de Vries, left the tower in the spring of 1968, " +
        "and since then the light has turned by itself.",
    },
    Garden: {
      question: "What destroyed the greenhouse?",
      context:
        "🌱 Marta Ruiz founded the botanical garden of Vallmont in 1903 with seeds that she had brought from Chile. " +
        "The greenhouse, which was destroyed by hail in 1957, was rebuilt with donations from local schools. 🌻 " +
        "Today the garden employs forty people and is best known for its collection of alpine flowers.",
    },
    "No answer": {
      question: "Who founded the botanical garden?",
      allow_no_answer: true,
      context:
        "The road follows the river for a while and then climbs through fields and small woods towards the hills. " +
        "In the valley the mornings are cold and clear, and the farmers bring in the hay before the rain comes.",
    },
  },
  classify: {
    Praise: { text: "A quiet, generous film that trusts its actors and never once raises its voice." },
    Complaint: { text: "Two hours of noise in search of a story, and it finds neither the story nor an end." },
  },
  rerank: {
    Lighthouse: {
      query: "Who built the lighthouse?",
      documents: [
        "The last keeper, Piet de Vries, left the lighthouse in the spring of 1968.",
        "The tower on the northern cape is the work of Anna Lindqvist, an engineer from Gothenburg.",
        "Its lamp burned whale oil until 1902.",
        "A lighthouse is a tower with a lamp that guides ships at night.",
        "The greenhouse was rebuilt with donations from local schools.",
      ],
    },
    Support: {
      query: "How long do I have to send something back?",
      documents: [
        "We deliver within three working days, to Norway within five.",
        "Returns are free for 30 days after delivery; keep the label.",
        "Gift cards are valid for two years.",
        "To change your address, open your profile and choose Addresses.",
      ],
    },
  },
  similarity: {
    Music: {
      source: "A man is playing a guitar.",
      targets: [
        "Someone plays an instrument.",
        "A musician sits on the stage with his guitar.",
        "A woman is slicing an onion.",
        "The stock market fell on Monday.",
      ],
    },
    Support: {
      source: "I forgot my password and cannot log in.",
      targets: [
        "How do I reset my password?",
        "Where can I see my invoices?",
        "My account is locked.",
        "Do you ship to Norway?",
      ],
    },
  },
  entities: {
    Lighthouse: {
      text:
        "The old lighthouse on the northern cape was built in 1871 by Anna Lindqvist, an engineer from Gothenburg. " +
        "Piet de Vries, who left it in 1968, was its last keeper.",
    },
    Garden: {
      text:
        "🌱 Marta Ruiz founded the botanical garden of Vallmont in 1903 with seeds that she had brought from Chile. " +
        "The University of Lund has lent its collection of alpine flowers.",
    },
  },
};
