// An Azure OpenAI resource that takes Entra tokens only, and one deployment in it.

@description('Its name, and its host: NAME.openai.azure.com.')
param name string
param location string
param modelName string
param modelVersion string

@description('Thousands of tokens a minute.')
param capacity int

resource account 'Microsoft.CognitiveServices/accounts@2024-10-01' = {
  name: name
  location: location
  kind: 'OpenAI'
  sku: {
    name: 'S0'
  }
  properties: {
    // Tokens are for the resource's own name, not for the region's endpoint.
    customSubDomainName: name
    // No API keys.
    disableLocalAuth: true
    publicNetworkAccess: 'Enabled'
  }
}

resource deployment 'Microsoft.CognitiveServices/accounts/deployments@2024-10-01' = {
  parent: account
  name: modelName
  sku: {
    name: 'GlobalStandard'
    capacity: capacity
  }
  properties: {
    model: {
      format: 'OpenAI'
      name: modelName
      version: modelVersion
    }
  }
}

output endpoint string = account.properties.endpoint
